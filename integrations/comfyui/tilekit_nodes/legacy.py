"""The nodes as classes with ``INPUT_TYPES``, for hosts from before the schema of version 3."""

from collections.abc import Sequence
from typing import Any

from .spec import Node


def mappings_of(nodes: Sequence[Node]) -> tuple[dict[str, type], dict[str, str]]:
    """Give the classes and the names that are shown, by the names of the nodes."""
    return {node.name: _class_of(node) for node in nodes}, {node.name: node.display for node in nodes}


def _class_of(node: Node) -> type:
    def input_types(cls: type) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {"required": {}, "optional": {}}
        for row in node.inputs:
            options = {"tooltip": row.tooltip, **row.options}
            rows["optional" if row.optional else "required"][row.name] = (row.kind, options)
        return rows

    def execute(self: Any, **inputs: Any) -> Any:
        outputs, shown = node.run(**inputs)
        return outputs if shown is None else {"ui": shown, "result": outputs}

    body = {
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": tuple(row.kind for row in node.outputs),
        "RETURN_NAMES": tuple(row.name for row in node.outputs),
        "OUTPUT_TOOLTIPS": tuple(row.tooltip for row in node.outputs),
        "FUNCTION": "execute",
        "CATEGORY": node.category,
        "DESCRIPTION": node.description,
        "OUTPUT_NODE": node.ends,
        "execute": execute,
        "__doc__": node.description,
    }
    return type(node.name, (), body)

"""The nodes in the host's schema of version 3."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import ComfyExtension, io

from .spec import Input, Node

_TYPES = {
    "LATENT": io.Latent,
    "VAE": io.Vae,
    "IMAGE": io.Image,
    "AUDIO": io.Audio,
    "VIDEO": io.Video,
    "FLOAT": io.Float,
    "INT": io.Int,
    "STRING": io.String,
}


def extension_of(nodes: Sequence[Node]) -> ComfyExtension:
    """Give an extension with these nodes."""
    classes = [_class_of(node) for node in nodes]

    class Extension(ComfyExtension):
        async def get_node_list(self) -> list[type[io.ComfyNode]]:
            return classes

    return Extension()


def _class_of(node: Node) -> type[io.ComfyNode]:
    def define_schema(cls: type) -> io.Schema:
        return io.Schema(
            node_id=node.name,
            display_name=node.display,
            category=node.category,
            description=node.description,
            inputs=[_input(row) for row in node.inputs],
            outputs=[_TYPES[row.kind].Output(display_name=row.name, tooltip=row.tooltip) for row in node.outputs],
            is_output_node=node.ends,
        )

    def execute(cls: type, **inputs: Any) -> io.NodeOutput:
        outputs, shown = node.run(**inputs)
        return io.NodeOutput(*outputs, ui=shown)

    body = {"define_schema": classmethod(define_schema), "execute": classmethod(execute), "__doc__": node.description}
    return type(node.name, (io.ComfyNode,), body)


def _input(row: Input) -> Any:
    return _TYPES[row.kind].Input(row.name, tooltip=row.tooltip, optional=row.optional, **row.options)

"""Nodes for ComfyUI: exact decoding and encoding with any VAE, in the memory there is."""

from .tilekit_nodes.nodes import NODES

try:
    from .tilekit_nodes.schema import extension_of
except ImportError:  # a host from before its node schema of version 3
    from .tilekit_nodes.legacy import mappings_of

    NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings_of(NODES)
    __all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
else:

    async def comfy_entrypoint():
        """Give the extension to the host."""
        return extension_of(NODES)

    __all__ = ["comfy_entrypoint"]

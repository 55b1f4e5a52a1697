"""
Layouts of checkpoints: what the same weights are called, and how they lie, in the files of different projects.

===========  ==========================================================================================
layout       form
===========  ==========================================================================================
official     one file (or shards) with everything, prefixes by component, configuration in the metadata
split        one file for each component; autoencoders with bare ``encoder.`` and ``decoder.``
diffusers    a folder for each component with its own names and a ``config.json``
mlx          the folders of mlx-video, channels of convolutions last; its files of everything are read too
===========  ==========================================================================================

`ltx_models.checkpoints.open_checkpoint` shows every one of them under the official names and shapes, so that all
loaders read all layouts; `ltx_models.convert` writes them. Names are tables in ``_names.py`` and ``_diffusers.py``;
where channels stand is found from shapes (``_axes.py``).
"""

from ltx_models.checkpoints.layouts._read import FOLDERS, View, official_config, read_view

__all__ = ["FOLDERS", "View", "official_config", "read_view"]

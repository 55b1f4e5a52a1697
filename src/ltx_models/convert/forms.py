"""What a checkpoint looks like in each layout: which folders, which names, what stands beside the weights."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from ltx_models.checkpoints.layouts import _axes, _diffusers, _names
from ltx_models.checkpoints.layouts._values import Bytes
from ltx_models.convert.write import Entry
from ltx_models.nn.statistics import STATISTICS

QUANTIZATION = "quantization"


@dataclass
class Folder:
    """One folder of the result: its tensors by name, the stem of its files, and what else stands in it."""

    path: str
    stem: str
    entries: dict[str, Entry] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)


def _split_by_component(entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
    components: dict[str, dict[str, Entry]] = {}
    upsampler = "initial_conv.weight" in entries
    for key, entry in entries.items():
        component, name = _names.component_of(key)
        components.setdefault(component or ("upsampler" if upsampler else ""), {})[name] = entry
    return components


def _official(
    entries: Mapping[str, Entry], _: Mapping[str, Any], __: dict[str, str]
) -> tuple[list[Folder], Iterable[str]]:
    return [Folder("", "model", dict(entries))], ()


def _split(
    entries: Mapping[str, Entry], _: Mapping[str, Any], __: dict[str, str]
) -> tuple[list[Folder], Iterable[str]]:
    folders: dict[str, Folder] = {}
    components = _split_by_component(entries)
    dropped = components.pop("", {})
    for component, tensors in components.items():
        # as published: the vocoder beside the audio autoencoder, the text connectors in a file of their own
        stem = "audio_vae" if component == "vocoder" else component
        folder = folders.setdefault(stem, Folder("", stem))
        bare = component == "video_vae"
        folder.entries |= {name if bare else _names.official_key(component, name): x for name, x in tensors.items()}
    return list(folders.values()), dropped


def _for_diffusers(
    entries: Mapping[str, Entry], config: Mapping[str, Any], metadata: dict[str, str]
) -> tuple[list[Folder], Iterable[str]]:
    components = _split_by_component(entries)
    dropped = list(components.pop("", {}))
    folders = []
    for component, tensors in components.items():
        kept = {}
        for name, entry in tensors.items():
            if _is_spare(name):
                dropped.append(_names.official_key(component, name))
            else:
                kept[_names.DIFFUSERS[component].there(name)] = entry
        alone = len(components) == 1 and component == "upsampler"
        folder = Folder("" if alone else _diffusers.FOLDERS[component], "diffusion_pytorch_model", kept)
        shapes = {name: entry.shape for name, entry in tensors.items()}
        folder.others["config.json"] = _json(_diffusers.config_for(component, config, shapes))
        folders.append(folder)
    if not (len(folders) == 1 and not folders[0].path):
        classes = {f.path: ["diffusers", json.loads(f.others["config.json"])["_class_name"]] for f in folders}
        index = {"_class_name": "LTX2Pipeline", **dict(sorted(classes.items()))}
        folders.append(Folder("", "", {}, {"model_index.json": _json(index)}))
    return folders, dropped


def _for_mlx(
    entries: Mapping[str, Entry], config: Mapping[str, Any], metadata: dict[str, str]
) -> tuple[list[Folder], Iterable[str]]:
    components = _split_by_component(entries)
    dropped = list(components.pop("", {}))
    folders = []
    for component, tensors in components.items():
        for kind, path, part in _mlx_folders(component, tensors):
            folder = Folder(path, "model")
            for name, (official, entry) in part.items():
                folder.entries[_names.MLX[kind].there(name)] = _channels_last(component, official, entry)
            folder.others["config.json"] = _json(_mlx_config(kind, config, metadata))
            folders.append(folder)
        dropped += [_names.official_key(component, name) for name in tensors if _is_spare(name)]
    return folders, dropped


def _mlx_folders(
    component: str, tensors: Mapping[str, Entry]
) -> Iterable[tuple[str, str, dict[str, tuple[str, Entry]]]]:
    """Divide a component into the folders of that layout, with the statistics in each half of an autoencoder."""
    if component not in {"video_vae", "audio_vae"}:
        path = {"connectors": "text_projections", "upsampler": "upsampler"}.get(component, component)
        yield component, path, {name: (name, entry) for name, entry in tensors.items()}
        return
    statistics = {
        name: (name, entry)
        for name, entry in tensors.items()
        if name.startswith("per_channel_statistics.") and not _is_spare(name)
    }
    for half in ("encoder", "decoder"):
        inner = {
            name.removeprefix(f"{half}."): (name, entry)
            for name, entry in tensors.items()
            if name.startswith(f"{half}.")
        }
        if inner:
            kind = f"{component.removesuffix('_vae')}_{half}"
            yield kind, f"{component.removeprefix('video_')}/{half}", inner | statistics


def _channels_last(component: str, name: str, entry: Entry) -> Entry:
    if not _axes.is_convolution(component, name, entry.shape):
        return entry
    axes = _axes.from_official(component, name, len(entry.shape))
    width = entry.size // prod(entry.shape)

    def read() -> Bytes:
        turned = entry.read().view(f"V{width}").reshape(entry.shape).transpose(axes)
        return np.ascontiguousarray(turned).reshape(-1).view(np.uint8)

    return Entry(entry.dtype, tuple(entry.shape[i] for i in axes), read)


def _mlx_config(kind: str, config: Mapping[str, Any], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Say in config.json what that project's loaders look for; the whole configuration is in the metadata."""
    if kind != "transformer":
        return {"model_type": kind}
    section = config.get("transformer", {})
    known: dict[str, Any] = {
        key: value
        for key, value in section.items()
        if isinstance(value, (int, float, str, list)) and not key.startswith("_")
    }
    known["double_precision_rope"] = section.get("frequencies_precision") == "float64"
    marker = json.loads(metadata.get(QUANTIZATION, "{}"))
    if "bits" in marker:
        known["quantization"] = {"bits": marker["bits"], "group_size": marker["group_size"]}
    return known


def _is_spare(name: str) -> bool:
    """Say whether this is one of the statistics that official files carry and no network reads."""
    head, _, rest = name.rpartition("per_channel_statistics.")
    return not head and name.startswith("per_channel_statistics.") and rest not in STATISTICS


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


LAYOUTS = {"official": _official, "split": _split, "diffusers": _for_diffusers, "mlx": _for_mlx}

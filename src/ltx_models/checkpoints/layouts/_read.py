"""Which files make up a checkpoint, what each of them holds, and how its tensors are called officially."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ltx_models.checkpoints.files import (
    Checkpoint,
    CheckpointError,
    Stored,
    checkpoint_files,
    indexed_names,
    read_header,
)
from ltx_models.checkpoints.layouts import _axes, _diffusers, _names
from ltx_models.checkpoints.layouts._published import published
from ltx_models.checkpoints.layouts._values import EIGHT_BITS, FLOATS, widen
from ltx_models.checkpoints.state_dict import Source, stored_arrays
from ltx_models.media.regular import parse_json

# Folders in which other tools put one component each; the text encoder and its tokenizer are no part of a checkpoint.
FOLDERS = (
    "transformer",
    "connectors",
    "text_projections",
    "vae",
    "vae/encoder",
    "vae/decoder",
    "audio_vae",
    "audio_vae/encoder",
    "audio_vae/decoder",
    "vocoder",
)
# Prefixes of mlx-video's file of everything.
UNIFIED = {
    "transformer.": "transformer",
    "connector.": "connectors",
    "vae_decoder.": "video_decoder",
    "vae_encoder.": "video_encoder",
    "audio_vae.": "audio_decoder",
    "vocoder.": "vocoder",
    "text_embedding_projection.": "connectors",
}
HALVES = {
    "video_encoder": ("video_vae", "encoder."),
    "video_decoder": ("video_vae", "decoder."),
    "audio_encoder": ("audio_vae", "encoder."),
    "audio_decoder": ("audio_vae", "decoder."),
}
OFFICIAL = ("model.diffusion_model.", "vae.", "audio_vae.", "text_embedding_projection.")
# parts of names of diffusers that no official name has, by which files with these names and official prefixes are known
DIFFUSERS_SIGNS = {
    "video_vae": (".resnets.", ".upsamplers.", ".downsamplers.", "latents_mean"),
    "audio_vae": ("latents_mean",),
    "vocoder": ("upsamplers.",),
}
# the marker that mlx-video's conversions and `save_transformer` put down about packed integers
QUANTIZATION = "quantization"
# beginnings of keys of upsamplers and of language models
EXTRAS = ("initial_conv.", "language_model.", "model.language_model.", "model.layers.", "model.embed_tokens.")
LARGE = 1 << 20  # bytes beyond which two tensors are compared by their beginning


@dataclass
class View:
    """
    What becomes of a checkpoint when every tensor bears its official name.

    Attributes
    ----------
    files : dict of str to Stored
        Where each tensor lies.
    config : dict of str to object
        Sections; an upsampler's own configuration.
    metadata : dict of str to str
        Of all files.
    layouts : set of str
        The layouts found.
    """

    files: dict[str, Stored] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    layouts: set[str] = field(default_factory=set)

    def add(self, files: Mapping[str, Stored], config: Mapping[str, Any], layout: str) -> None:
        """Put a part in, and refuse what two parts tell differently."""
        shared = sorted(self.files.keys() & files.keys())
        if differing := [key for key in shared if not _same(self.files[key], files[key])]:
            msg = (
                f"{files[differing[0]].file}: {len(differing)} keys stand in another shard too, such as "
                f"{differing[0]!r} in {self.files[differing[0]].file}; give the one that is meant"
            )
            raise CheckpointError(msg)
        self.files |= files
        for name, section in config.items():
            if isinstance(section, dict) and isinstance(self.config.get(name), dict):
                self.config[name] = {**self.config[name], **section}
            else:
                self.config[name] = section
        self.layouts.add(layout)


def read_view(path: Source) -> View:
    """
    Find the files of a checkpoint and read their headers.

    Parameters
    ----------
    path : path or mapping
        A file, a folder of shards or of components, or a state dict, in any layout.

    Returns
    -------
    View
        Official names; no tensor is read but statistics that two files hold.

    Raises
    ------
    CheckpointError
        If a file is missing or broken, or the parts contradict one another.
    """
    view = View()
    if isinstance(path, Mapping):
        _add(view, None, stored_arrays(path), {})
        return view
    for folder, files in _parts(Path(path)):
        headers = [(file, *read_header(file)) for file in files]
        for _, metadata, _ in headers:
            view.metadata |= metadata
        config: dict[str, Any] = {}
        tensors: dict[str, Stored] = {}
        for file, metadata, stored in headers:
            config |= _embedded(metadata)
            if twice := tensors.keys() & stored.keys():
                msg = f"{file}: {len(twice)} keys stand in another shard too, such as {min(twice)!r}"
                raise CheckpointError(msg)
            tensors |= stored
        try:
            _add(view, folder, tensors, config)
        except CheckpointError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            msg = f"{files[0]}: {error}" if str(files[0]) not in str(error) else str(error)
            raise CheckpointError(msg) from error
    if view.config and view.config != _embedded(view.metadata):
        view.metadata["config"] = json.dumps(view.config)
    return view


def _embedded(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Give the configuration of a file's metadata; what is broken is left for whoever asks for it."""
    try:
        config = parse_json(metadata.get("config", "{}"))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _parts(path: Path) -> list[tuple[Path, list[Path]]]:
    """Group files that one tool wrote as one: the folder of their config.json, and the files."""
    if path.is_file():
        return [(path.parent, checkpoint_files(path))]
    own = [file for file in path.glob("*.safetensors") if not _is_extra(file)]
    folders = [path / name for name in FOLDERS if list((path / name).glob("*.safetensors"))]
    if folders and not own:
        return [(folder, checkpoint_files(folder)) for folder in folders]
    files = [file for file in checkpoint_files(path) if file in own] or checkpoint_files(path)
    indexed = indexed_names(path)
    shards = [file for file in files if file.name in indexed]
    return [(path, shards)] * bool(shards) + [(path, [file]) for file in files if file not in shards]


def _is_extra(file: Path) -> bool:
    """Say whether a file is what lies beside checkpoints: a LoRA, an upsampler, or a shard of the language model."""
    return any(key.startswith(EXTRAS) or ".lora_" in key for key in read_header(file)[1])


def official_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """
    Translate a configuration that a caller gives, where it is one of diffusers.

    Parameters
    ----------
    config : mapping
        The sections of a checkpoint, one of them, or the configuration of a model of diffusers.

    Returns
    -------
    mapping
        Sections, or what was given.

    Examples
    --------
    >>> official_config({"vae": {"patch_size": 4}})
    {'vae': {'patch_size': 4}}
    """
    return _diffusers.sections_of(config) if config.get("_class_name") in _diffusers.CLASSES else config


def _add(view: View, folder: Path | None, tensors: dict[str, Stored], config: dict[str, Any]) -> None:
    """Recognise one part and put it into the view."""
    beside = _file(folder, "config.json")
    component = _diffusers.CLASSES.get(str(beside.get("_class_name")))
    if component is not None:
        view.add(_diffusers_names(component, tensors), _diffusers.sections_of(beside) | config, "diffusers")
        return
    embedded = config or _file(folder, "embedded_config.json")
    for kind, part, names in _kinds(tensors):
        if kind == "unknown":
            view.add(part, config, "official")
            continue
        if kind == "upsampler":
            # beside other components it is a file of its own, which is loaded on its own
            if not view.files and len(part) == len(tensors):
                view.add(_oriented(kind, part, names, view.metadata), config, "official")
            continue
        files = _oriented(kind, part, names, view.metadata)
        moved = any(stored.axes for stored in files.values())
        layout = "official" if not moved and all(key in part for key in files) else "mlx"
        view.add(files, embedded or _described(kind, names, beside), layout)
        _mark_quantized(view, folder, files)


def _diffusers_names(component: str, tensors: Mapping[str, Stored]) -> dict[str, Stored]:
    back = _names.DIFFUSERS[component].back
    return {_names.official_key(component, back(key)): stored for key, stored in tensors.items()}


def _kinds(tensors: dict[str, Stored]) -> Iterable[tuple[str, dict[str, Stored], dict[str, str]]]:
    """Split a file into components: the kind, its tensors, and the official name of each within the component."""
    if any(key.startswith(("vae_decoder.", "vae_encoder.", "transformer.", "connector.")) for key in tensors):
        for prefix, kind in UNIFIED.items():
            inner = "" if prefix == _names.PROJECTION else prefix
            part = {key: s for key, s in tensors.items() if key.startswith(prefix)}
            if part:
                bare = {key[len(inner) :]: stored for key, stored in part.items()}
                yield kind, part, {key: _mlx_name(kind, key[len(inner) :], bare) for key in part}
        return
    if any(key.startswith(OFFICIAL) for key in tensors) or _is_official_vocoder(tensors):
        by: dict[str, dict[str, Stored]] = {}
        for key, stored in tensors.items():
            by.setdefault(_names.component_of(key)[0] or "unknown", {})[key] = stored
        for kind, part in by.items():
            names = {key: _names.component_of(key)[1] for key in part}
            if any(sign in name for sign in DIFFUSERS_SIGNS.get(kind, ()) for name in names.values()):
                names = {key: _names.DIFFUSERS[kind].back(name) for key, name in names.items()}
            yield kind, part, names
        return
    kind = _kind_of(tensors)
    if kind == "unknown":
        yield kind, tensors, {}
        return
    own = _own_names(kind, tensors)
    yield kind, {key: tensors[key] for key in own}, own
    if len(own) < len(tensors):
        yield "unknown", {key: stored for key, stored in tensors.items() if key not in own}, {}


def _own_names(kind: str, tensors: Mapping[str, Stored]) -> dict[str, str]:
    """Name officially what belongs to a component whose keys bear no prefix."""
    if any(sign in key for sign in DIFFUSERS_SIGNS.get(kind, ()) for key in tensors):
        return {key: _names.DIFFUSERS[kind].back(key) for key in tensors}
    starts = ("encoder.", "decoder.", "per_channel_statistics.") if kind in {"video_vae", "audio_vae"} else ("",)
    return {key: _mlx_name(kind, key, tensors) for key in tensors if key.startswith(starts)}


def _is_official_vocoder(tensors: Mapping[str, Stored]) -> bool:
    """Tell the official prefix from the first generator's own name, which is the same word."""
    newer = any(key.startswith("bwe_generator.") for key in tensors)
    return not newer and any(key.startswith(("vocoder.conv_pre.", "vocoder.bwe_generator.")) for key in tensors)


def _kind_of(tensors: Mapping[str, Stored]) -> str:
    """Name the component of a file whose keys bear no official prefix."""

    def has(*starts: str) -> bool:
        return any(key.startswith(starts) for key in tensors)

    signs = (
        # first, as some carry the connectors too
        ("transformer", has("patchify_proj.", "audio_patchify_proj.") and not has("diffusion_model.")),
        ("connectors", has("video_embeddings_connector.", "video_aggregate_embed.", "aggregate_embed.")),
        ("upsampler", "initial_conv.weight" in tensors and "final_conv.weight" in tensors),
        ("vocoder", has("conv_pre.", "vocoder.", "bwe_generator.", "upsamplers.")),
        ("audio_vae", has("decoder.up.", "encoder.down.")),
        ("video_vae", has("decoder.up_blocks.", "encoder.down_blocks.") and has_axes(tensors, "conv_in", 5)),
        ("audio_decoder", "conv_in.conv.weight" in tensors and has("up.")),
        ("audio_encoder", "conv_in.conv.weight" in tensors and has("down.")),
        ("video_decoder", has("up_blocks.") and has_axes(tensors, "conv_in", 5)),
        ("video_encoder", has("down_blocks.") and has_axes(tensors, "conv_in", 5)),
    )
    return next((kind for kind, present in signs if present), "unknown")


def has_axes(tensors: Mapping[str, Stored], name: str, count: int) -> bool:
    """Say whether a layer's weight has so many axes."""
    return any(
        len(stored.shape) == count for key, stored in tensors.items() if f"{name}." in key and key.endswith(".weight")
    )


def _mlx_name(kind: str, name: str, tensors: Mapping[str, Stored]) -> str:
    """Give the official name, without the component's prefix, of one that stands alone; official ones stay."""
    if kind == "vocoder":
        return _vocoder_name(name, tensors)
    table = {"video_vae": "video_encoder", "audio_vae": "audio_encoder"}.get(kind, kind)
    name = _names.MLX[table].back(name)
    half = HALVES.get(kind, ("", ""))[1]
    return name if name.startswith("per_channel_statistics.") else half + name


def _vocoder_name(name: str, tensors: Mapping[str, Stored]) -> str:
    """Find the name within a vocoder, of 2.0 or of 2.3, where its prefix is gone."""
    if not any(key.startswith("bwe_generator.") for key in tensors):
        return name
    # One way of converting dropped every "vocoder.", so that the first generator of 2.3 lost its name.
    return name if name.startswith(("vocoder.", "bwe_generator.", "mel_stft.")) else f"vocoder.{name}"


def _oriented(
    kind: str, part: Mapping[str, Stored], names: Mapping[str, str], metadata: Mapping[str, str]
) -> dict[str, Stored]:
    """Name the tensors of a component officially and turn the weights of its convolutions the official way."""
    component = HALVES.get(kind, (kind, ""))[0]
    marker: _axes.Order | None = {"mlx": "last", "pt": "first"}.get(metadata.get("format", ""))  # type: ignore[assignment]  # of these two
    shapes = [(names[key], stored.shape) for key, stored in part.items()]
    order = _axes.order_of(component, shapes, marker, str(next(iter(part.values())).file))
    oriented: dict[str, Stored] = {}
    for key, stored in part.items():
        name, shape = names[key], stored.shape
        axes: tuple[int, ...] = ()
        if _axes.is_convolution(component, name, shape):
            axes = _axes.to_official(component, name, order, len(shape))
        official = _names.official_key(component, name)
        oriented[official] = replace(stored, shape=tuple(shape[i] for i in axes), axes=axes) if axes else stored
    return oriented


def _described(kind: str, names: Mapping[str, str], beside: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a component of mlx-video: the published architecture, with what its own config.json says otherwise."""
    if not beside:
        return {}
    component = HALVES.get(kind, (kind, ""))[0]
    sections = {name: dict(section) for name, section in published(component, names.values()).items()}
    known = sections.get("transformer", {}) if component in {"transformer", "connectors"} else {}
    known |= {key: value for key, value in beside.items() if key in known and value is not None}
    if "double_precision_rope" in beside and known:
        known["frequencies_precision"] = "float64" if beside["double_precision_rope"] else "float32"
    if kind == "video_encoder" and beside.get("encoder_blocks"):
        sections["vae"]["encoder_blocks"] = beside["encoder_blocks"]
    return sections


def _mark_quantized(view: View, folder: Path | None, files: Mapping[str, Stored]) -> None:
    """Put down, as `save_transformer` does, what mlx-video's folders say of packed integers."""
    if QUANTIZATION in view.metadata or not any(key.endswith(".scales") for key in files):
        return
    config = _file(folder, "quantize_config.json") or _file(folder, "config.json")
    scheme = config.get("quantization")
    if scheme:
        marker = {"scheme": f"int{scheme['bits']}", "bits": scheme["bits"], "group_size": scheme["group_size"]}
        view.metadata[QUANTIZATION] = json.dumps(marker)


def _same(one: Stored, two: Stored) -> bool:
    """Say whether two files hold the same tensor: conversions write statistics and connectors twice."""
    if one.shape != two.shape:
        return False
    if one.size > LARGE:  # gigabytes of connectors in all: the beginning of each tells
        starts = [np.fromfile(s.file, np.uint8, LARGE, offset=s.start).tobytes() for s in (one, two)]
        return one.dtype == two.dtype and one.axes == two.axes and starts[0] == starts[1]
    if not {one.dtype, two.dtype} <= {*FLOATS, EIGHT_BITS}:
        first, second = (Checkpoint(Path(), {}, {"x": s}).buffer("x") for s in (one, two))
        return one.dtype == two.dtype and bool(np.array_equal(first, second))
    first, second = (widen(Checkpoint(Path(), {}, {"x": s}).buffer("x"), s.dtype) for s in (one, two))
    return bool(np.array_equal(first, second))


def _file(folder: Path | None, name: str) -> dict[str, Any]:
    """Read a file of JSON beside the weights; nothing where there is none, as beside a state dict."""
    if folder is None or not (path := folder / name).is_file():
        return {}
    try:
        content = parse_json(path.read_bytes())
    except (ValueError, OSError) as error:
        msg = f"{path}: is not JSON ({error})"
        raise CheckpointError(msg) from error
    return content if isinstance(content, dict) else {}

"""The networks of a pipeline: loaded when they are needed, released when they are not."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ltx_models.audio_vae import load_audio_decoder, load_audio_encoder
from ltx_models.checkpoints import BackendName, DType, open_checkpoint, without_weights
from ltx_models.lora import AppliedLora, apply_lora
from ltx_models.nn import Array, Backend, backend
from ltx_models.pipelines.belonging import check_present
from ltx_models.pipelines.files import Files, Lora
from ltx_models.pipelines.memory import give_back
from ltx_models.quantization import Scheme
from ltx_models.text import load_connectors, load_text_encoder
from ltx_models.text.duration import load_duration_head
from ltx_models.text.enhancer import load_enhancer
from ltx_models.text.gemma import check_libraries
from ltx_models.transformer import load_transformer
from ltx_models.upsampler import load_statistics, load_upsampler
from ltx_models.video_vae import load_video_decoder, load_video_encoder
from ltx_models.vocoder import load_vocoder


class Components:
    """
    Networks by name, each in memory from its first use until it is released.

    Parameters
    ----------
    files : Files
        Where they lie.
    backend_name : {"torch", "mlx"}
        The framework.
    dtype : {"bfloat16", "float16", "float32"}
        Of the weights, and of what is computed with them; the vocoder is always float32, as 16-bit floats are heard
        there.
    device : optional
        A torch device.
    quantize : {"fp8", "int8", "int4"}, optional
        Of the transformer; see `ltx_models.load_transformer`.
    offload : bool
        Read the transformer's blocks from the file as they are needed.
    keep : bool
        Keep networks that later calls will need, for machines with memory for all of them.
    text_quantize : {"int8", "int4"}, optional
        Of the language model; see `ltx_models.load_text_encoder`.
    text_offload : bool
        Read the language model's layers from its files as they are needed.
    """

    def __init__(
        self,
        files: Files,
        *,
        backend_name: BackendName = "torch",
        dtype: DType = "bfloat16",
        device: Any = None,
        quantize: Scheme | None = None,
        offload: bool = False,
        keep: bool = False,
        text_quantize: Scheme | None = None,
        text_offload: bool = False,
    ) -> None:
        self.files = files
        self.text_quantize: Scheme | None = text_quantize
        self.text_offload = text_offload
        self.nn: Backend = backend(backend_name)
        self.backend_name: BackendName = backend_name
        self.dtype: DType = dtype
        self.device = device
        self.quantize: Scheme | None = quantize
        self.offload = offload
        self.keep = keep
        self._held: dict[str, Any] = {}
        self._checked: set[str] = set()
        self._applied: tuple[tuple[Lora, ...], AppliedLora] | None = None

    @property
    def held(self) -> tuple[str, ...]:
        """Names of the networks in memory."""
        return tuple(sorted(self._held))

    @contextmanager
    def using(self, name: str) -> Iterator[Any]:
        """Give a network, and release it afterwards unless `keep` is set."""
        try:
            yield self.get(name)
        finally:
            if not self.keep:
                self.release(name)

    def get(self, name: str) -> Any:
        """
        Give a network, reading it if it is not in memory.

        Parameters
        ----------
        name : str
            Such as ``"video_decoder"``.

        Returns
        -------
        module
            The network.

        Raises
        ------
        CheckpointError
            If its file is not what it should be.
        ValueError
            If no file of it was given.
        """
        if name not in self._held:
            self._held[name] = self._load(name)
        return self._held[name]

    def check(self, *names: str) -> None:
        """
        Read the configuration and the header of networks, and refuse files that do not fit them, before a run begins.

        Parameters
        ----------
        *names : str
            Such as ``"video_decoder"``; each is checked once.

        Raises
        ------
        CheckpointError
            If a file is not what it should be.
        ImportError
            If the language model's library is not installed.
        ValueError
            If no file of a network was given, or its configuration describes none that is known.
        """
        for name in names:
            if name in self._held or name in self._checked:
                continue
            if name in {"text_encoder", "prompt_enhancer"}:  # which were checked when the pipeline was made
                self.files.of(name)
                check_libraries(self.nn.name)
            else:
                check_present(self.files, name)
                with without_weights():
                    self._load(name)
            self._checked.add(name)

    def transformer(self, loras: Sequence[Lora] = ()) -> Any:
        """
        Give the transformer with these LoRAs and no others, as live layers.

        Parameters
        ----------
        loras : sequence of (Path, float)
            Files and strengths.

        Returns
        -------
        Transformer
            The network.

        Raises
        ------
        CheckpointError
            If a LoRA does not belong to this transformer.
        """
        wanted = tuple(loras)
        model = self.get("transformer")
        if (() if self._applied is None else self._applied[0]) != wanted:
            if self._applied is not None:
                self._applied[1].remove()
                self._applied = None
            if wanted:
                # keys of the sound are left over where the checkpoint has none; all others must fit
                alone = model.config.audio is None
                self._applied = (wanted, apply_lora(model, wanted, ignore_unmatched=alone))
        return model

    def release(self, *names: str) -> None:
        """Let go of networks, by name; of all without a name."""
        for name in names or tuple(self._held):
            model = self._held.pop(name, None)
            if name == "transformer" and model is not None:
                self._applied = None
                if self.offload:
                    model.offload.close()
            del model
        gc.collect()
        give_back(self.nn.name)

    def array(self, values: Any) -> Array:
        """Make an array of the framework, on the device, in float32."""
        nn = self.nn
        x = values if nn.is_array(values) else nn.asarray(values)
        return nn.cast(x, nn.float32, self.device)

    def adapted(self, x: Array) -> Array:
        """Cast an array to the dtype of the networks."""
        return self.nn.cast(x, self.nn.dtype(self.dtype), self.device)

    def _load(self, name: str) -> Any:
        path = self.files.of(name)
        on: dict[str, Any] = {"backend": self.backend_name, "device": self.device}
        if name == "statistics":
            return load_statistics(path, **on)
        on["dtype"] = "float32" if name == "vocoder" else self.dtype
        if name == "transformer":
            return load_transformer(path, quantize=self.quantize, offload=self.offload, **on)
        if name == "text_encoder":
            return load_text_encoder(path, quantize=self.text_quantize, offload=self.text_offload, **on)
        if name == "prompt_enhancer":
            return load_enhancer(path, quantize=self.text_quantize, **on)
        if name == "connectors":
            return load_connectors(path, projections=self.files.projections, **on)
        return LOADERS[name](path, **on)


LOADERS: dict[str, Callable[..., Any]] = {
    "duration_head": load_duration_head,
    "video_encoder": load_video_encoder,
    "video_decoder": load_video_decoder,
    "audio_encoder": load_audio_encoder,
    "audio_decoder": load_audio_decoder,
    "vocoder": load_vocoder,
    "upsampler": load_upsampler,
}


def reference_scales(loras: Sequence[Lora]) -> tuple[int, int]:
    """
    Read how much smaller in space and time the references are that in-context LoRAs were trained with.

    Parameters
    ----------
    loras : sequence of (Path, float)
        Files and strengths.

    Returns
    -------
    downscale, time_scale : int
        1 where no LoRA says anything.

    Raises
    ------
    ValueError
        If two LoRAs disagree.
    """
    scales = {"reference_downscale_factor": 1, "reference_temporal_scale_factor": 1}
    for path, _ in loras:
        with open_checkpoint(path, "numpy") as checkpoint:
            for name, before in scales.items():
                value = int(checkpoint.metadata.get(name, "1"))
                if value != 1 and before not in {1, value}:
                    msg = f"{path}: {name} is {value}, but another LoRA says {before}; use one of them alone"
                    raise ValueError(msg)
                scales[name] = value if value != 1 else before
    return scales["reference_downscale_factor"], scales["reference_temporal_scale_factor"]

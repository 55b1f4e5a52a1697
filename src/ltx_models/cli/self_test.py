"""A small test of what is installed, with the checkpoints of this package: does it compute, and the same both ways."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import ltx_models
from ltx_models.media import as_float32
from ltx_models.nn import BackendName

PROMPT = "a red circle moving right, a high tone"
FRAMES = 9
ALLOWED = 1e-4  # of values from -1 to 1, in float32


def self_test(backend: BackendName) -> dict[str, str]:
    """
    Decode exactly and whole, and generate a short clip with the toy.

    Parameters
    ----------
    backend : {"torch", "mlx"}
        What runs it.

    Returns
    -------
    dict of str to str
        What was tested, and what came of it.

    Raises
    ------
    ValueError
        If the exact decode is not the whole one, or a clip is not finite.
    """
    return {"exact decode": _decode(backend), "a clip of the toy": _generate(backend)}


def _decode(backend: BackendName) -> str:
    decoder: Any = ltx_models.load_video_decoder(ltx_models.default_checkpoint(), backend=backend, dtype="float32")
    noise = np.random.default_rng(0).normal(size=(1, 128, 4, 2, 4)).astype(np.float32)
    latents = decoder.nn.asarray(noise)
    budget = ltx_models.plan_exact(decoder, latents.shape, memory_bytes=2**62).peak_bytes // 2
    exact = as_float32(ltx_models.decode_exact(decoder, latents, memory_bytes=budget))
    difference = float(np.abs(exact - as_float32(decoder(latents))).max())
    if not difference <= ALLOWED:  # NaN too
        msg = f"self-test: the exact decode of {backend} is {difference:.2g} off the whole one; at most {ALLOWED} is"
        raise ValueError(msg)
    return f"right with {backend}, {difference:.1g} off the whole decode in half of its memory"


def _generate(backend: BackendName) -> str:
    begun = time.perf_counter()
    pipe = ltx_models.LTX2Pipeline.from_pretrained(backend=backend, dtype="float32")
    clip = pipe(PROMPT, num_frames=FRAMES, seed=1)
    if not np.isfinite(clip.frames).all() or clip.frames.shape[1] != FRAMES:
        msg = f"self-test: the toy's clip has shape {clip.frames.shape} and values that are not finite with {backend}"
        raise ValueError(msg)
    return f"{FRAMES} frames in {time.perf_counter() - begun:.1f} s with {backend}"

"""The nodes."""

from typing import Any

from . import host, look, video
from .exact import decoded, encoded
from .spec import Input, Node, Output

MEMORY = Input(
    "memory_gb",
    "FLOAT",
    "What the decode may take at its peak, in GiB, without the weights. 0 takes what the host says is free.",
    {"default": 0.0, "min": 0.0, "max": 1024.0, "step": 0.1},
)
VAE = Input("vae", "VAE", "Any VAE: LTX-2, Wan, HunyuanVideo, Qwen-Image, Stable Diffusion, Flux, ...")
LATENTS = Input("samples", "LATENT", "Latents of pictures or of a video.")
IMAGE = Output("image", "IMAGE", "Pixels: all frames, one after the other.")


def _decode(vae: Any, samples: Any, memory_gb: float) -> tuple[tuple[Any, ...], Any]:
    return (decoded(vae, samples["samples"], memory_gb),), None


def _encode(vae: Any, pixels: Any, memory_gb: float) -> tuple[tuple[Any, ...], Any]:
    return ({"samples": encoded(vae, pixels, memory_gb)},), None


def _to_video(
    vae: Any, samples: Any, fps: float, filename_prefix: str, memory_gb: float, audio: Any = None
) -> tuple[tuple[Any, ...], Any]:
    path, name, below = video.saved(vae, samples["samples"], fps, filename_prefix, memory_gb, audio)
    shown = {"images": [{"filename": name, "subfolder": below, "type": "output"}], "animated": (True,)}
    return (host.video_of(path),), shown


def _plan(vae: Any, samples: Any, memory_gb: float) -> tuple[tuple[Any, ...], Any]:
    text, image = look.planned(vae, samples["samples"], memory_gb)
    return (text, image), {"text": (text,)}


def _seams(
    vae: Any, samples: Any, tile_size: int, overlap: int, gain: float, memory_gb: float
) -> tuple[tuple[Any, ...], Any]:
    image, text = look.seams(vae, samples["samples"], tile_size, overlap, memory_gb, gain)
    return (image, text), {"text": (text,)}


NODES = (
    Node(
        "VAEDecodeExact",
        "VAE Decode (Exact)",
        "Decodes in little memory without tiles: no seams, no ghosting, no colour shift; equal to one piece.",
        (LATENTS, VAE, MEMORY),
        (IMAGE,),
        _decode,
    ),
    Node(
        "VAEEncodeExact",
        "VAE Encode (Exact)",
        "Encodes in little memory without tiles; equal to one piece.",
        (Input("pixels", "IMAGE", "Pictures, or the frames of a video."), VAE, MEMORY),
        (Output("latent", "LATENT", "Latents."),),
        _encode,
    ),
    Node(
        "VAEDecodeExactToVideo",
        "VAE Decode to Video File (Exact)",
        "Decodes straight into an mp4: the frames are never in memory together.",
        (
            LATENTS,
            VAE,
            Input("fps", "FLOAT", "Frames a second.", {"default": 24.0, "min": 1.0, "max": 120.0, "step": 0.01}),
            Input("filename_prefix", "STRING", "Name in the output folder.", {"default": "video/tilekit"}),
            MEMORY,
            Input("audio", "AUDIO", "The sound of the video.", optional=True),
        ),
        (Output("video", "VIDEO", "The file."),),
        _to_video,
        ends=True,
    ),
    Node(
        "VAETilingPlan",
        "VAE Decode Plan",
        "Says what an exact decode will do and take, before it runs.",
        (LATENTS, VAE, MEMORY),
        (Output("text", "STRING", "The plan as a table."), Output("image", "IMAGE", "The plan as a picture.")),
        _plan,
        ends=True,
    ),
    Node(
        "VAESeamMap",
        "VAE Seam Map",
        "Shows where a tiled decode differs from the exact one.",
        (
            LATENTS,
            VAE,
            Input("tile_size", "INT", "Pixels of a tile.", {"default": 512, "min": 64, "max": 4096, "step": 32}),
            Input("overlap", "INT", "Pixels that tiles share.", {"default": 64, "min": 0, "max": 4096, "step": 32}),
            Input("gain", "FLOAT", "How much differences are enlarged.", {"default": 10.0, "min": 1.0, "max": 999.0}),
            MEMORY,
        ),
        (Output("image", "IMAGE", "The map."), Output("text", "STRING", "How large the difference is.")),
        _seams,
        ends=True,
    ),
)

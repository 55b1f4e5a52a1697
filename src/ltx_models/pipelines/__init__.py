"""
Pipelines: from a prompt to a video with sound, on torch and MLX.

`LTX2Pipeline` is what users call; `recipes` shows the order of work, and `steps` what it is made of.
"""

from ltx_models.pipelines.call import (
    Call,
    Inputs,
    Keywords,
    OutputOptions,
    Prompts,
    SamplingOptions,
    SizeOptions,
)
from ltx_models.pipelines.callbacks import Callbacks
from ltx_models.pipelines.grid import Size, fitted
from ltx_models.pipelines.memory import MemoryPlan, plan_memory, read_memory
from ltx_models.pipelines.pictures import Image
from ltx_models.pipelines.pipeline import LTX2Pipeline
from ltx_models.pipelines.request import Latents, LTX2Output, Reference, Retake
from ltx_models.pipelines.settings import RECIPES

__all__ = [
    "RECIPES",
    "Call",
    "Callbacks",
    "Image",
    "Inputs",
    "Keywords",
    "LTX2Output",
    "LTX2Pipeline",
    "Latents",
    "MemoryPlan",
    "OutputOptions",
    "Prompts",
    "Reference",
    "Retake",
    "SamplingOptions",
    "Size",
    "SizeOptions",
    "fitted",
    "plan_memory",
    "read_memory",
]

"""What a call of a pipeline will do and take: checked and said before any weights are read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ltx_models.checkpoints import open_checkpoint
from ltx_models.checkpoints.files import described_by
from ltx_models.pipelines import checks
from ltx_models.pipelines.budgets import check_previews, decode_budget, decode_of
from ltx_models.pipelines.call import Call
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.duration import most_frames, resolve_duration
from ltx_models.pipelines.forecast import forecast
from ltx_models.pipelines.memory import MemoryPlan
from ltx_models.pipelines.noise import check_noise
from ltx_models.pipelines.request import Request
from ltx_models.pipelines.resolve import networks_of, resolve, resolve_size, unused
from ltx_models.pipelines.settings import Defaults, Recipe, defaults, settings_of, version_of
from ltx_models.transformer.loading import read_config


class Preparing:
    """
    The networks and the order of work of a pipeline, and what follows of them for a call.

    Parameters
    ----------
    components : Components
        The networks.
    recipe : Recipe
        The order of work.
    memory : MemoryPlan or None
        How it fits into memory.
    """

    def __init__(self, components: Components, recipe: Recipe, memory: MemoryPlan | None) -> None:
        self.components = components
        self.recipe = recipe
        self.memory = memory
        self.version = version_of(components.files.transformer)
        with open_checkpoint(components.files.transformer, "numpy") as checkpoint:
            with described_by(checkpoint.path):
                self.config = read_config(checkpoint, None)
            self.settings = settings_of(checkpoint.metadata)

    @property
    def defaults(self) -> Defaults:
        """What this recipe uses with this checkpoint unless a call says otherwise."""
        return defaults(self.recipe, self.version, self.config.layers, self.settings)

    def prepare(self, call: Call) -> tuple[Request, list[str]]:
        """
        Check a call and fill in what it leaves open, before anything is computed.

        Parameters
        ----------
        call : Call
            What is asked for.

        Returns
        -------
        request : Request
            All that the run needs to know.
        notes : list of str
            What was moved and what is not used, for the user.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If a file cannot be read or written.
        """
        streams = checks.find_streams(call.sampling.streams, self.config, call.inputs.retake)
        duration = resolve_duration(call, self.components.files)
        fps = self.defaults.fps if call.size.frame_rate is None else call.size.frame_rate
        longest = None if duration is None else most_frames(duration, fps)
        size, notes = resolve_size(call, self.recipe, self.defaults, longest)
        checks.check_call(call, streams, size, self.components.files)
        request = replace(resolve(call, self.recipe, self.defaults, streams, size), duration=duration)
        checks.check_embeds(request)
        checks.check_keyframes(request, self.config)
        check_noise(request, self.config, self.components.nn)
        previews = call.callbacks.preview is not None
        enhancer = call.prompts.enhance_prompt and self.components.files.prompt_enhancer is not None
        self.components.check(*networks_of(request, call.output, previews=previews, enhancer=enhancer))
        if previews and "video" in streams:
            check_previews(self.components, request)
        if request.duration is None:
            decode_budget(self.components, self.memory, call.output, request)
        return request, notes + unused(call, self.recipe)

    def forecast(self, call: Call) -> dict[str, int]:
        """
        Forecast the peak of each step of a call, before any weights are read.

        Parameters
        ----------
        call : Call
            What is asked for.

        Returns
        -------
        dict of str to int
            Bytes by step, in order, without what the framework itself takes; the largest is what the run needs.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        """
        request, _ = self.prepare(call)
        budget = decode_budget(self.components, self.memory, call.output, request)
        return forecast(self.components, self.recipe, request.size, self.config, budget)

    def plan_decode(self, call: Call) -> Any:
        """
        Say how the decode of a call will be cut, before any weights are read.

        Parameters
        ----------
        call : Call
            What is asked for.

        Returns
        -------
        ExactPlan or DiffusionPlan
            As `plan_exact` gives it.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        """
        request, _ = self.prepare(call)
        return decode_of(self.components, request.size).plan(
            decode_budget(self.components, self.memory, call.output, request)
        )

"""The pipeline that users call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from ltx_models.checkpoints import BackendName, DType
from ltx_models.nn import backend as get_backend
from ltx_models.nn.checks import check_device, check_dtype
from ltx_models.pipelines import batch, foreign, recipes, steps
from ltx_models.pipelines.budgets import decode_budget, said_of_peaks
from ltx_models.pipelines.call import Call, Keywords
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.duration import timed
from ltx_models.pipelines.finding import to_standard_error
from ltx_models.pipelines.forecast import forecast
from ltx_models.pipelines.given import Given, refuse_clashes
from ltx_models.pipelines.keeping import kept_on_failure
from ltx_models.pipelines.kept import KeptRun
from ltx_models.pipelines.memory import MemoryPlan, plan_memory
from ltx_models.pipelines.preparing import Preparing
from ltx_models.pipelines.request import LTX2Output
from ltx_models.pipelines.results import finish
from ltx_models.pipelines.run import Run
from ltx_models.pipelines.settings import Recipe
from ltx_models.quantization import Scheme


class LTX2Pipeline(Preparing):
    """
    From a prompt to a video with sound.

    Parameters
    ----------
    components : Components
        The networks.
    recipe : Recipe
        The order of work.
    memory : MemoryPlan, optional
        How it fits into memory.
    say : callable, optional
        Takes lines for the user before a run; by default they go to standard error.

    Notes
    -----
    Make one by `from_pretrained`.
    """

    def __init__(
        self,
        components: Components,
        recipe: Recipe,
        memory: MemoryPlan | None = None,
        say: Callable[[str], object] | None = None,
    ) -> None:
        self.say = say or to_standard_error
        super().__init__(components, recipe, memory)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path | None = None,
        *,
        pipeline: str | None = None,
        backend: BackendName = "torch",
        dtype: DType = "bfloat16",
        device: Any = None,
        quantize: Scheme | None = None,
        offload: bool = False,
        quantize_text: Scheme | None = None,
        offload_text: bool = False,
        memory_bytes: int | None = None,
        text_encoder: str | Path | Literal[False] | None = None,
        upsampler: str | Path | None = None,
        distilled_lora: str | Path | None = None,
        loras: Sequence[tuple[str | Path, float]] = (),
        video_vae: str | Path | None = None,
        audio_vae: str | Path | None = None,
        transformer: str | Path | None = None,
        duration_head: str | Path | None = None,
        prompt_enhancer: str | Path | None = None,
        keep: bool = False,
        token: str | None = None,
        revision: str | None = None,
        say: Callable[[str], object] | None = None,
        torch_dtype: Any = None,
    ) -> Self:
        """
        Make a pipeline of files; no weights are read yet.

        Parameters
        ----------
        path : path or str, optional
            By default the embedded toy, which knows moving shapes only (`ltx_models.default_pipeline`) and takes no
            other files. Else a checkpoint in any layout that `ltx_models.checkpoints.layouts` names: a safetensors file
            or a folder; or a repository of Hugging Face as ``"owner/name"``, or a file in one as
            ``"owner/name/file.safetensors"``. Only the files of a repository that the pipeline needs are fetched, and
            only where the cache lacks them.
        pipeline : str, optional
            ``"distilled"``, ``"distilled-one-stage"``, ``"dev"``, ``"dev-two-stage"``, ``"dev-two-stage-hq"`` or
            ``"keyframes"``. By default ``"dev"`` where the name says so, else ``"distilled"`` with an upsampler and
            ``"distilled-one-stage"`` without.
        backend : {"torch", "mlx"}
            The framework.
        dtype : {"bfloat16", "float16", "float32"}
            Of the weights, and of what is computed with them.
        device : optional
            A torch device.
        quantize : {"fp8", "int8", "int4"}, optional
            Of the transformer.
        offload : bool
            Read the transformer's blocks from the file as they are needed.
        quantize_text : {"int8", "int4"}, optional
            Of the language model, on MLX.
        offload_text : bool
            Read the language model's layers from its files as they are needed.
        memory_bytes : int, optional
            Memory to fit into: chooses these four and the budget of the decode. The choice is `memory`, and each call
            says what its steps will take.
        text_encoder : path, str or False, optional
            The folder or repository of the Gemma 3 model or, for 2.5, the text encoder's file. By default the one in
            the folder or repository of the checkpoint, else, for a repository of 2.0 or 2.3, Google's. False where
            ``prompt_embeds=`` makes it unnecessary.
        upsampler, distilled_lora : path or str, optional
            Files that two-stage pipelines need; by default those in the folder or repository of the checkpoint. These,
            too, may be files in a repository.
        loras : sequence of (path, float), optional
            LoRAs and their strengths.
        video_vae, audio_vae : path or str, optional
            Where the autoencoders are files of their own, or others than those in the folder are wanted.
        transformer : path or str, optional
            In place of `path`, where the transformer is a file of its own, as for 2.5: the other parts are given by
            their parameters.
        duration_head : path or str, optional
            What says how long the clip of a prompt should be (2.5); by default the one in the folder or repository of
            the checkpoint, if there is one.
        prompt_enhancer : path or str, optional
            The folder or repository of an instruction-tuned Gemma 3 or 4 that writes prompts out. By default the text
            encoder does, which that of 2.5 cannot.
        keep : bool
            Keep networks in memory between uses.
        token : str, optional
            Of Hugging Face, for gated repositories; by default what is configured there.
        revision : str, optional
            The branch, tag or commit of the checkpoint's repository; pin one to get the same files for ever.
        say : callable, optional
            Takes lines about what will be fetched and how large it is; by default they go to standard error.
        torch_dtype : optional
            Refused, as diffusers' name of `dtype`.

        Returns
        -------
        LTX2Pipeline
            Ready to be called.

        Raises
        ------
        CheckpointError
            If the checkpoint is missing, broken or has no transformer.
        DownloadError
            If a file is neither here nor to be had.
        ImportError
            If the backend's package is missing; the text says what to install.
        ValueError
            If a name is unknown, files are missing, or nothing fits the memory.
        TypeError
            If ``torch_dtype`` is given.
        """
        refuse_clashes(torch_dtype, memory_bytes, bool(quantize or offload or quantize_text or offload_text))
        check_dtype(dtype)
        check_device(get_backend(backend), device)
        given = Given(
            path,
            transformer,
            text_encoder,
            upsampler,
            distilled_lora,
            tuple(loras),
            video_vae,
            audio_vae,
            duration_head,
            prompt_enhancer,
        )
        recipe, files = given.find(pipeline, fp8=quantize == "fp8", token=token, revision=revision, say=say)
        memory = None
        if memory_bytes is not None:
            memory = plan_memory(
                files.transformer,
                memory_bytes,
                backend=backend,
                itemsize=4 if dtype == "float32" else 2,
                text_encoder=files.text_encoder,
                device=device,
            )
        components = Components(
            files,
            backend_name=backend,
            dtype=dtype,
            device=device,
            quantize=memory.quantize if memory else quantize,
            offload=memory.offload if memory else offload,
            keep=keep,
            text_quantize=memory.text_quantize if memory else quantize_text,
            text_offload=memory.text_offload if memory else offload_text,
        )
        return cls(components, recipe, memory, say)

    if not TYPE_CHECKING:  # which would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Refuse names of diffusers' pipelines with what says the same here."""
            meant = f"; here it is {foreign.ATTRIBUTES[name]}" if name in foreign.ATTRIBUTES else ""
            msg = f"{type(self).__name__} has no attribute {name!r}{meant}"
            raise AttributeError(msg, name=name, obj=self)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_videos_per_prompt: int = 1,
        generator: Any = None,
        **keywords: Unpack[Keywords],
    ) -> LTX2Output:
        """
        Generate, as flat keywords say.

        Parameters
        ----------
        prompt, negative_prompt : str or sequence of str, optional
            What to show, and what not; the negative one has a default, and only guided pipelines use it. Several
            prompts are generated one after another, in the memory of one; ``from_pretrained(keep=True)`` saves reading
            the networks anew for each.
        num_videos_per_prompt : int
            How many videos of each prompt. Video ``k`` of a call has the seed ``seed + k``.
        generator : torch.Generator, numpy.random.Generator, or a sequence of them, optional
            Draws the seeds, in place of ``seed``; of a sequence each draws the seed of one video.
        **keywords : Keywords
            Any fields of these values, by their names: of `Prompts` (``enhance_prompt``, ``prompt_embeds``,
            ``negative_prompt_embeds``), `Inputs` (``image``, ``images``, ``references``, ``audio``, ``audio_start``,
            ``retake``, ``fit``), `SizeOptions` (``height``, ``width``, ``num_frames``, ``auto_duration``,
            ``frame_rate``, ``snap``), `SamplingOptions` (``num_inference_steps``, ``sigmas``, ``guidance``,
            ``guidance_scale``, ``streams``, ``generated_keyframes``, ``seed``, ``draw``, ``latents``,
            ``audio_latents``; of several videos the noise of all along the first axis), `OutputOptions`
            (``output_type``, ``output``, ``save_latents``, ``decode_bytes``, ``keep``) and `Callbacks` (``progress``,
            ``callback_on_step_end``, ``preview``, ``preview_every``).

        Returns
        -------
        LTX2Output
            Frames, sound, latents, and notes for the user; those of several videos along the first axis.

        Raises
        ------
        TypeError
            If there is no such keyword.
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If a file cannot be read or written.
        Cancelled
            If ``callback_on_step_end`` returned False.
        """
        calls = batch.calls(prompt, negative_prompt, keywords, count=num_videos_per_prompt, generator=generator)
        if len(calls) > 1:
            batch.check([self.prepare(call)[0] for call in calls])
        return batch.joined([self.run(call) for call in calls])

    def run(self, call: Call) -> LTX2Output:
        """
        Generate, as a call of grouped values says.

        Parameters
        ----------
        call : Call
            Prompts, inputs, size, sampling, output and callbacks.

        Returns
        -------
        LTX2Output
            Frames, sound, latents, and notes for the user.

        Raises
        ------
        ValueError
            If something does not fit; the text says what would.
        MediaError
            If a file cannot be read or written.
        Cancelled
            If ``callback_on_step_end`` returned False.
        """
        request, notes = self.prepare(call)
        with call.callbacks.with_bar() as callbacks:
            run = Run(self.components, request, callbacks)
            if call.prompts.enhance_prompt:
                run = replace(run, request=replace(request, prompt=steps.enhance_prompt(run)))
                notes.append(f"prompt: {run.request.prompt}")
            if request.duration is not None:
                run, note = timed(run, call, self.defaults)
                notes.append(note)
            budget = decode_budget(self.components, self.memory, call.output, run.request)
            if call.output.keep is not None:
                run = replace(run, kept=KeptRun.of(Path(call.output.keep), self.components, run.request))
            if self.memory is not None:
                peaks = forecast(self.components, self.recipe, run.request.size, self.config, budget)
                for line in said_of_peaks(peaks, self.memory):
                    self.say(line)
            latents = recipes.generate(run)
            fps, output = request.size.fps, call.output
            files, seed = self.components.files, request.seed
            with kept_on_failure(latents, fps, output.latents_path, output.path, files=files, seed=seed):
                return finish(run, latents, output, budget, tuple(notes))

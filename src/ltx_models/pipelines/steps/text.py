"""From prompts to text embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from ltx_models.nn import Array
from ltx_models.pipelines.components import Components
from ltx_models.pipelines.request import Embeds
from ltx_models.pipelines.run import Run
from ltx_models.sampling import TextEmbeddings


def encode_text(run: Run) -> dict[str, TextEmbeddings]:
    """
    Give the text embeddings that each stream attends to.

    Parameters
    ----------
    run : Run
        Whose request has prompts, or their embeddings.

    Returns
    -------
    dict of str to TextEmbeddings
        For ``"video"`` and ``"audio"``.
    """
    components = run.components
    positive, negative = encode_contexts(run)

    def embeddings(values: Array | None) -> Array | None:
        return None if values is None else components.adapted(components.array(values))

    pairs = zip(("video", "audio"), positive, negative or (None, None), strict=True)
    return {name: TextEmbeddings(embeddings(x), embeddings(worse)) for name, x, worse in pairs if x is not None}


def encode_contexts(run: Run) -> tuple[Embeds, Embeds | None]:
    """
    Give what text becomes before it is text embeddings of a stream.

    Parameters
    ----------
    run : Run
        Whose request has prompts, or their embeddings.

    Returns
    -------
    positive, negative : pair of array
        Video's and audio's, (1, S, C), of the prompt and of the negative one; None where guidance needs none.
    """
    request = run.request
    positive, negative = request.prompt_embeds, request.negative_prompt_embeds
    if positive is None:
        with run.callbacks.phase("text"):
            prompts = [request.prompt, *([request.negative_prompt] if request.negates else [])]
            positive, *others = encode_prompts(run.components, prompts)
        negative = others[0] if others else None
    return positive, negative if request.negates else None


def estimate_seconds(run: Run, context: Embeds) -> float:
    """
    Ask the duration head how long the clip of a prompt should be.

    Parameters
    ----------
    run : Run
        Whose networks are used.
    context : pair of array, shape (1, S, C)
        Of the prompt, for video and for audio, as `encode_contexts` gives it.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    ValueError
        If they are no finite number.
    """
    components = run.components
    with run.callbacks.phase("duration"), components.using("duration_head") as head:
        given = (None if x is None else components.adapted(components.array(x)) for x in context)
        seconds = float(components.nn.to_numpy(components.nn.cast(head(*given), components.nn.float32))[0])
    if not isfinite(seconds):
        msg = (
            f"duration: the duration head gave {seconds} seconds; give the number of frames (num_frames, --num-frames)"
        )
        raise ValueError(msg)
    return seconds


def enhance_prompt(run: Run) -> str:
    """
    Let the language model expand the prompt: a separate one where it was given, else the text encoder.

    Parameters
    ----------
    run : Run
        Whose request has an idea for a clip, and the seed of the expansion.

    Returns
    -------
    str
        The expanded prompt.
    """
    name = "text_encoder" if run.components.files.prompt_enhancer is None else "prompt_enhancer"
    with run.callbacks.phase("enhance"), run.components.using(name) as encoder:
        return str(encoder.enhance(run.request.prompt, seed=run.request.seed))


def encode_prompts(components: Components, prompts: Sequence[str]) -> list[tuple[Array, Array | None]]:
    """
    Run the language model and the connectors.

    Parameters
    ----------
    components : Components
        The networks.
    prompts : sequence of str
        The prompts.

    Returns
    -------
    list of pair of array
        For each prompt the embeddings of video and audio, of shape (1, S, C); None where the checkpoint has no audio.
    """
    with components.using("text_encoder") as encoder:
        hidden, mask = encoder.hidden_states(encoder.tokenize(prompts))
        components.nn.synchronize(hidden, mask)
    # gigabytes each: the one is released before the other is loaded
    with components.using("connectors") as connectors:
        video, audio, _ = connectors(hidden, mask, padding_side="left")
    pairs = [(video[i : i + 1], None if audio is None else audio[i : i + 1]) for i in range(len(prompts))]
    components.nn.synchronize(*(x for pair in pairs for x in pair if x is not None))
    return pairs

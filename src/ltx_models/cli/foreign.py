"""Flags of other tools, and what they are called here: told where somebody types one of them."""

import re
from collections.abc import Collection

# Of mlx-video, the official pipelines and Diffusers' examples; where they are ours too, they never get here.
GENERATE = {
    "--cfg-scale": "--video-cfg-guidance-scale and --audio-cfg-guidance-scale",
    "--guidance-scale": "--video-cfg-guidance-scale and --audio-cfg-guidance-scale",
    "--audio-cfg-scale": "--audio-cfg-guidance-scale",
    "--cfg-rescale": "--video-rescale-scale and --audio-rescale-scale",
    "--stg-scale": "--video-stg-guidance-scale and --audio-stg-guidance-scale",
    "--stg-blocks": "--video-stg-blocks and --audio-stg-blocks",
    "--modality-scale": "--a2v-guidance-scale and --v2a-guidance-scale",
    "--image-strength": "--image FILE FRAME STRENGTH",
    "--image-frame-idx": "--image FILE FRAME STRENGTH",
    "--end-image": "a second --image FILE FRAME STRENGTH, whose FRAME is the last one",
    "--keyframe": "--image FILE FRAME STRENGTH, as often as you like, with --pipeline keyframes",
    "--audio-file": "--audio-path",
    "--audio": "--audio-path for sound that leads; sound is generated unless --no-audio is given",
    "--model-repo": "--checkpoint-path",
    "--model": "--checkpoint-path",
    "--text-encoder-repo": "--gemma-root",
    "--spatial-upscaler": "--spatial-upsampler-path",
    "--lora-path": "--lora FILE [STRENGTH], or --distilled-lora FILE",
    "--lora-strength": "--lora FILE STRENGTH",
    "--lora-scale": "--lora FILE STRENGTH",
    "--tiling": "not needed: decoding is exact, without tiles, within a budget; --memory SIZE sets it",
    "--vae-tiling": "not needed: decoding is exact, without tiles, within a budget; --memory SIZE sets it",
    "--save-frames": "--frames-png DIR",
    "--torch-dtype": "--dtype",
    "--hf-path": "'ltx-models convert SOURCE TARGET'",
}
# Of verbs that decode or encode.
DECODE = {
    "--vae": "--checkpoint",
    "--vae-path": "--checkpoint",
    "--model-path": "--checkpoint",
    "--checkpoint-path": "--checkpoint",
    "--tile-size": "--tiling SIZE/OVERLAP",
    "--tile-overlap": "--tiling SIZE/OVERLAP",
    "--overlap": "--tiling SIZE/OVERLAP",
    "--temporal-size": "--tiling SIZE/OVERLAP,SIZE/OVERLAP, of which the second is of frames",
    "--temporal-overlap": "--tiling SIZE/OVERLAP,SIZE/OVERLAP, of which the second is of frames",
    "--vae-tiling": "not needed: exact is the default; --tiling cuts into blended tiles",
    "--num-frames": "--frames",
    "--output-path": "--output",
    "--batch-size": "--tile-batch-size",
    "--torch-dtype": "--dtype",
    "--fps": "not needed: the rate is that of the clip or the latents",
}


def ours(verb: str, flag: str, flags: Collection[str]) -> str | None:
    """
    Say what a flag of another tool is called here.

    Parameters
    ----------
    verb : str
        The verb that was given it.
    flag : str
        With its dashes.
    flags : collection of str
        Those of the verb.

    Returns
    -------
    str or None
        Ours, in words; None where the flag is unknown, or the verb has none of the kind.

    Examples
    --------
    >>> ours("generate", "--audio-file", ["--audio-path"])
    '--audio-path'
    """
    known = (GENERATE if verb == "generate" else DECODE).get(flag)
    return known if known and set(re.findall(r"--[a-z0-9-]+", known)) <= set(flags) else None

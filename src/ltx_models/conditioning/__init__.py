"""
What is generated and what is given: latent states, positions, and conditions such as images, keyframes and references.

A state is made empty, gets conditions, then noise, and goes through `ltx_models.sampling.denoise`:

    state = video_state(latent_shape, fps=24, like=array)
    state = replace_frames(state, image_latent, frame=0)
    state = add_noise(state, 1.0, draw)

Positions and masks that steps need on the host are NumPy arrays, so that no step waits for a device.
"""

from ltx_models.conditioning.conditions import append_keyframe, append_reference, inpaint, regenerate, replace_frames
from ltx_models.conditioning.slots import append_slots, even_keyframes, take_slots
from ltx_models.conditioning.states import LatentState, add_noise, audio_state, freeze, mask_array, video_state
from ltx_models.conditioning.tokens import SCALE, audio_positions, audio_tokens, patchify, unpatchify, video_positions

__all__ = [
    "SCALE",
    "LatentState",
    "add_noise",
    "append_keyframe",
    "append_reference",
    "append_slots",
    "audio_positions",
    "audio_state",
    "audio_tokens",
    "even_keyframes",
    "freeze",
    "inpaint",
    "mask_array",
    "patchify",
    "regenerate",
    "replace_frames",
    "take_slots",
    "unpatchify",
    "video_positions",
    "video_state",
]

"""Official names of transformer parameters, and those of the diffusers library."""

from __future__ import annotations

# replaced one after another, anywhere in the key
_PAIRS = (
    ("patchify_proj", "proj_in"),
    ("av_ca_video_scale_shift_adaln_single", "av_cross_attn_video_scale_shift"),
    ("av_ca_a2v_gate_adaln_single", "av_cross_attn_video_a2v_gate"),
    ("av_ca_audio_scale_shift_adaln_single", "av_cross_attn_audio_scale_shift"),
    ("av_ca_v2a_gate_adaln_single", "av_cross_attn_audio_v2a_gate"),
    ("scale_shift_table_a2v_ca_video", "video_a2v_cross_attn_scale_shift_table"),
    ("scale_shift_table_a2v_ca_audio", "audio_a2v_cross_attn_scale_shift_table"),
    ("q_norm", "norm_q"),
    ("k_norm", "norm_k"),
    ("prompt_adaln_single", "prompt_adaln"),
)
# replaced at the start of a key, after the others
_HEADS = (("adaln_single.", "time_embed."), ("audio_adaln_single.", "audio_time_embed."))


def to_diffusers(key: str) -> str:
    """
    Give the diffusers name of an official one.

    Parameters
    ----------
    key : str
        Of a parameter, without a prefix.

    Returns
    -------
    str
        The name in ``LTX2VideoTransformer3DModel``.

    Examples
    --------
    >>> to_diffusers("audio_adaln_single.linear.bias"), to_diffusers("transformer_blocks.0.attn1.q_norm.weight")
    ('audio_time_embed.linear.bias', 'transformer_blocks.0.attn1.norm_q.weight')
    """
    for official, other in _PAIRS:
        key = key.replace(official, other)
    for official, other in _HEADS:
        key = other + key[len(official) :] if key.startswith(official) else key
    return key


def from_diffusers(key: str) -> str:
    """
    Give the official name of a diffusers one; official names stay.

    Parameters
    ----------
    key : str
        Of a parameter, without a prefix.

    Returns
    -------
    str
        The official name.

    Examples
    --------
    >>> from_diffusers("time_embed.linear.bias"), from_diffusers("patchify_proj.weight")
    ('adaln_single.linear.bias', 'patchify_proj.weight')
    """
    for official, other in _HEADS:
        key = official + key[len(other) :] if key.startswith(other) else key
    for official, other in _PAIRS:
        if official not in key:
            key = key.replace(other, official)
    return key

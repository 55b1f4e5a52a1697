"""The configuration of the text connectors, as checkpoints embed it under ``transformer``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ltx_models.transformer.rope import Pairing

# what tells the second feature extractor from the first, and the only values it has been published with
V2_KEYS = {
    "caption_proj_before_connector": True,
    "caption_projection_first_linear": False,
    "caption_proj_input_norm": False,
    "caption_projection_second_linear": False,
}


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """
    One connector.

    Attributes
    ----------
    heads, head_dim : int
        Attention heads, and channels of each.
    layers : int
        Blocks.
    registers : int
        Learned vectors that stand where padding was.
    max_pos : float
        The position that rotary angles span.
    gated : bool
        Whether attention heads are gated (2.3).
    pairing : {"split", "interleaved"}
        The rotary embedding's pairs of channels.
    double : bool
        Whether its frequencies are computed in float64.
    ff_bias : bool
        Whether the feed-forward networks have biases.
    """

    heads: int
    head_dim: int
    layers: int
    registers: int = 128
    max_pos: float = 1.0
    gated: bool = False
    pairing: Pairing = "split"
    double: bool = False
    ff_bias: bool = True

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_dim

    @classmethod
    def read(cls, section: Mapping[str, Any], prefix: str = "") -> ConnectorConfig:
        """
        Read the section ``transformer`` of an embedded configuration.

        Parameters
        ----------
        section : mapping
            ``config["transformer"]``.
        prefix : str
            Which connector: ``""`` or ``"audio_"``; that of audio falls back to the sizes of video's.

        Returns
        -------
        ConnectorConfig
            Keys that the official code reads; others are ignored.

        Raises
        ------
        ValueError
            If the rotary embedding is of a kind that is not known.

        Notes
        -----
        Source: the configurators of Lightricks/LTX-2; absent keys take their code's defaults.
        """
        pairing = str(section.get("rope_type", "split"))
        if pairing not in {"split", "interleaved"}:
            msg = f"transformer.rope_type: got {pairing!r}, allowed are 'split' and 'interleaved'"
            raise ValueError(msg)

        def size(name: str, default: int) -> int:
            fallback = section.get(f"connector_{name}", default)
            return int(section.get(f"{prefix}connector_{name}", fallback))

        return cls(
            heads=size("num_attention_heads", 30),
            head_dim=size("attention_head_dim", 128),
            layers=size("num_layers", 2),
            registers=int(section.get("connector_num_learnable_registers") or 128),
            max_pos=float(section.get("connector_positional_embedding_max_pos", [1])[0]),
            gated=bool(section.get("connector_apply_gated_attention", False)),
            pairing=cast(Pairing, pairing),
            double=section.get("frequencies_precision") == "float64",
            ff_bias=bool(section.get("connector_ff_bias", True)),
        )


def is_second_extractor(section: Mapping[str, Any]) -> bool:
    """
    Choose the feature extractor that a configuration asks for.

    Parameters
    ----------
    section : mapping
        ``config["transformer"]``.

    Returns
    -------
    bool
        True for that of 2.3, which projects for video and audio apart.

    Raises
    ------
    ValueError
        If the configuration asks for something between the two.

    Examples
    --------
    >>> is_second_extractor({}), is_second_extractor(V2_KEYS)
    (False, True)
    """
    flags = {key: section[key] for key in V2_KEYS if key in section}
    if flags and flags != V2_KEYS:
        msg = f"transformer: got {flags}; known are none of these keys (2.0), or {V2_KEYS} (2.3)"
        raise ValueError(msg)
    return bool(flags)

"""
Make the compact choice of reference cases in this folder from the full sets.

Run as ``python -m tests.reference.choose FULL FULL25`` with the folders of the full sets of LTX-2 and LTX-2.5.
Cases are copied without their intermediates; of networks that tests only run, and compare with themselves, the
configuration and the distribution of each tensor is kept, of which `networks.py` makes weights again.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

from safetensors import safe_open
from tests.reference.networks import KEPT_VALUES, widened

HERE = Path(__file__).parent

CASES = (
    "audio_decoder_batch2 audio_encoder_deep_res audio_encoder_one_frame audio_mel"
    " connectors_20_full connectors_23_left_pad"
    " diffusion_steps diffusion_steps_core120 guiders guiders_core120 positions samplers_res2s_euler_core120"
    " dit_audio20 dit_audio23 dit_video20 dit_video23 dit_av20_interleaved dit_av20_tokts_core100"
    " dit_av23_pert_mixed_batch tiled_decode_width_only_core120"
    " upsampler_temporal_single_frame upsampler_x2_rational"
    " video_decoder_dec20_single_frame video_decoder_dec23_single_frame_thin"
    " video_encoder_enc20_single_frame video_encoder_enc23_reflect_pad"
    " vocoder_20_batch2 vocoder_23_hop_remainder"
)
MOST_NUMBERS_OF_AN_INPUT = 2000  # small inputs are drawn again too, so that a network can be run
WITH_INTERMEDIATES = {
    "dit_av20_interleaved",
    "dit_av20_tokts_core100",
    "dit_av23_pert_mixed_batch",
    "dit_video20",
    "dit_video23",
}
TABLES = ("scheduler_sigmas", "tiling_tables_core100", "tiling_tables_core120")
NETWORKS = (
    "audio_decoder_basic audio_encoder_basic dit_av20_split dit_av23_split upsampler_temporal upsampler_x2_conv"
    " video_decoder_dec20_basic video_decoder_dec20_inject_noise video_decoder_dec20_timestep"
    " video_decoder_dec20_timestep_default video_decoder_dec20_two_layers"
    " video_decoder_dec23_basic video_decoder_dec23_two_layers video_decoder_dec23_wide"
    " video_encoder_enc20_basic video_encoder_enc23_basic video_encoder_enc23_single_frame"
    " vocoder_20_basic vocoder_23_six_stage"
)
CASES25 = (
    "ancestral_loop_eta1 ancestral_loop_eta_half diffvae_padded_one_frame dit_audio25_from_audio_only dit_av25_slots"
    " dit_video25_slots duration_head_two_queries hdr_curves keyframe_state_given_then_seeded_slots"
    " keyframe_state_slots te25_nested_metadata.text_encoder te25_nested_metadata.transformer"
    " video_encoder_nested_bare_keys"
)
TABLES25 = ("dfr_layout", "diffvae_tiling", "duration_frames", "even_keyframes", "gemma_version_gate")


def copy_case(source: Path, target: Path, *, intermediates: bool) -> None:
    """Copy one case, as a rule without its intermediates, to the bit."""
    import torch
    from safetensors.torch import save_file as save_tensors

    with safe_open(source, "pt") as file:
        keys = [key for key in file.keys() if intermediates or not key.startswith("debug.")]  # noqa: SIM118
        tensors: dict[str, torch.Tensor] = {key: file.get_tensor(key).contiguous() for key in keys}
        save_tensors(tensors, target, file.metadata())


def network(source: Path) -> dict[str, Any]:
    """Configuration and distributions of the weights of one case."""
    with safe_open(source, "numpy") as file:
        metadata = dict(file.metadata())
    tensors: dict[str, list[Any]] = {}
    for key, (dtype, shape, numbers) in widened(source).items():
        if key.startswith(("output.", "debug.")) or (
            key.startswith("input.") and numbers.size > MOST_NUMBERS_OF_AN_INPUT
        ):
            continue
        flat = numbers.reshape(-1)
        if flat.size <= KEPT_VALUES:
            tensors[key] = [dtype, shape, [float(x) for x in flat]]
        else:
            spread = (flat.mean(), flat.std(), flat.min(), flat.max())
            tensors[key] = [dtype, shape, *[float(f"{x:.4g}") for x in spread]]
    return {"metadata": metadata, "tensors": tensors}


def choose(full: Path, target: Path, cases: str, tables: tuple[str, ...]) -> None:
    """Copy the chosen cases and tables of one set."""
    target.mkdir(exist_ok=True)
    for name in cases.split():
        copy_case(
            full / f"{name}.safetensors", target / f"{name}.safetensors", intermediates=name in WITH_INTERMEDIATES
        )
    for name in tables:
        value = json.loads((full / f"{name}.json").read_text())
        (target / f"{name}.json").write_text(json.dumps(value, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    choose(Path(sys.argv[1]), HERE / "ltx2", CASES, TABLES)
    choose(Path(sys.argv[2]), HERE / "ltx25", CASES25, TABLES25)
    rows = {name: network(Path(sys.argv[1]) / f"{name}.safetensors") for name in NETWORKS.split()}
    text = json.dumps(rows, separators=(",", ":")).encode()
    (HERE / "ltx2" / "networks.json.gz").write_bytes(gzip.compress(text, mtime=0))

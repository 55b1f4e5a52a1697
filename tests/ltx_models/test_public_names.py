"""Where the public names are: a move of files keeps them."""

import re
from importlib import import_module
from pathlib import Path

import pytest

import ltx_models

ROOT = Path(__file__).parents[2]

NAMES = {
    "audio_vae": "AudioDecoder AudioEncoder AudioVAEConfig load_audio_decoder load_audio_encoder log_mel mel_stream",
    "autoencoder_kl": "AutoencoderKL AutoencoderKLConfig load_autoencoder_kl",
    "checkpoints": (
        "DTYPES BackendName Checkpoint CheckpointError DType Stored check_keys checkpoint_files load_component "
        "open_checkpoint prefixed read_header"
    ),
    "clips": "Bucket ClipResult ClipSettings ClipsError FittedClip encode_clips find_clips fit_clip",
    "compilation": "compile_blocks",
    "conditioning": (
        "SCALE LatentState add_noise append_keyframe append_reference audio_positions audio_state audio_tokens freeze "
        "inpaint mask_array patchify regenerate replace_frames unpatchify video_positions video_state"
    ),
    "convert": "Layout Report convert",
    "download": ("DownloadError Item Wanted cached_names fetch is_offline listed_names of_text_encoder plan wanted_by"),
    "lora": "AppliedLora Factors LoraLinear apply_lora check_lora read_lora",
    "media": (
        "Clip DiskError MediaError OriginalAudio SavedLatents VideoInfo VideoWriter as_float32 contact_sheet "
        "iter_frames probe_video read_audio read_latents read_video refuse_unwritable replacing sample_clip "
        "write_audio write_latents write_picture write_video"
    ),
    "nn": "Array Backend BackendName DType Module backend backend_of native_class",
    "offload": "Offload",
    "pipelines": (
        "RECIPES Image LTX2Output LTX2Pipeline Latents MemoryPlan Reference Retake Size fitted plan_memory read_memory"
    ),
    "quantization": "Fp8Linear by_rows check_scheme find hollow_out is_plain large put quantize quantized swap",
    "sampling": (
        "DISTILLED_SIGMAS STAGE_2_SIGMAS Ancestral Blend Cancelled Euler Guidance Noise Prediction Res2s Sampler State "
        "Text ancestral_step apg_delta beta_sigmas cfg_pp_step check_sigmas denoise denoised_of euler_step "
        "guide linear_quadratic_sigmas ltx2_sigmas phi renoise res2s_coefficients star_delta velocity_of"
    ),
    "sound_files": "WavWriter read_mel wav_writer",
    "sound_tiles": "audio_decoder_halo decode_audio_tiled on_lines vocode_tiled vocoder_halo waveform_geometry",
    "text": "Contexts TextEncoder Tokens clean load_connectors load_text_encoder",
    "transformer": ("Modality StreamConfig Timesteps Transformer TransformerConfig load_transformer save_transformer"),
    "upsampler": ("LatentStatistics LatentUpsampler UpsamplerConfig load_statistics load_upsampler upsample_latent"),
    "video_vae": (
        "LTX2 LTX2_3 ExactPlan VideoDecoder VideoEncoder VideoVAEConfig decode_exact encode_exact load_video_decoder "
        "load_video_encoder plan_exact stream_decode stream_encode"
    ),
    "vocoder": "BandwidthConfig BandwidthVocoder GeneratorConfig Vocoder load_vocoder read_config",
}


@pytest.mark.parametrize("module", NAMES)
def test_the_public_names_are_where_they_were(module: str) -> None:
    lost = [name for name in NAMES[module].split() if not hasattr(import_module(f"ltx_models.{module}"), name)]
    assert lost == []


def test_every_name_of_the_package_can_be_fetched() -> None:
    assert [name for name in ltx_models.__all__ if not hasattr(ltx_models, name)] == []


def test_the_reference_names_modules_that_are_listed_here() -> None:
    text = (ROOT / "docs" / "reference" / "ltx_models.md").read_text()
    assert set(re.findall(r"automodule:: ltx_models\.(\w+)", text)) <= set(NAMES)

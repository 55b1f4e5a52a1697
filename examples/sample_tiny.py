"""
Sample video and audio latents with a tiny transformer of random weights: every part of the way, in seconds.

    python examples/sample_tiny.py [torch|mlx]

With a real checkpoint, leave out `make_checkpoint` and give the prompt's encodings in place of random ones.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from ltx_models import load_transformer, save_transformer
from ltx_models.conditioning import add_noise, audio_state, audio_tokens, replace_frames, unpatchify, video_state
from ltx_models.nn import backend
from ltx_models.sampling import Guidance, Noise, SamplerStep, State, TextEmbeddings, denoise, ltx2_sigmas
from ltx_models.transformer import StreamConfig, Transformer, TransformerConfig


def make_checkpoint(path: Path, name: str) -> None:
    """Write a checkpoint in the official layout."""
    nn = backend(name)
    config = TransformerConfig(
        video=StreamConfig(128, 128, 2, 32, 64, (20.0, 2048.0, 2048.0)),
        audio=StreamConfig(128, 128, 2, 16, 32, (20.0,)),
        layers=2,
        gated=True,
        text_modulation=True,
    )
    rng = np.random.default_rng(0)
    model = nn.build(lambda: Transformer(nn, config))
    weights = {k: nn.asarray(rng.normal(0, 0.1, s).astype(np.float32)) for k, s in nn.shapes(model).items()}
    save_transformer(nn.load(model, weights), path)


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "torch"
    nn = backend(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.safetensors"
        make_checkpoint(path, name)
        model = load_transformer(path, backend="mlx" if name == "mlx" else "torch", dtype="float32")

    # 17 frames of 64 x 96 pixels at 24 frames a second, with a picture as the first frame
    rng = np.random.default_rng(1)
    array = nn.asarray(np.zeros(1, np.float32))
    video = video_state((1, 128, 3, 2, 3), fps=24, like=array)
    image = nn.asarray(rng.standard_normal((1, 128, 1, 2, 3)).astype(np.float32))
    video = replace_frames(video, image)
    audio = audio_state((1, 8, audio_tokens(17, 24), 16), like=array)

    noise = Noise(seed=10)
    text = {
        stream: TextEmbeddings(*(nn.asarray(rng.standard_normal((1, 6, width)).astype(np.float32)) for _ in range(2)))
        for stream, width in (("video", 64), ("audio", 32))
    }
    state = State(
        video=add_noise(video, 1.0, lambda x: noise("video", x)),
        audio=add_noise(audio, 1.0, lambda x: noise("audio", x)),
        text=text,
    )

    def on_step(step: SamplerStep) -> None:
        preview = unpatchify(step.denoised["video"], video.shape)
        print(f"step {step.index + 1} of {step.total}: noise {step.sigma_next:.3f}, preview {tuple(preview.shape)}")

    guidance = {"video": Guidance(3.0, 1.0, (1,), 3.0, 0.7), "audio": Guidance(7.0, 1.0, (1,), 3.0, 0.7)}
    done = denoise(model, state, ltx2_sigmas(8), guidance=guidance, on_step=on_step)
    assert done.video is not None
    assert done.audio is not None
    latent, sound = unpatchify(done.video.latent, video.shape), unpatchify(done.audio.latent, audio.shape)
    print(f"video latent {tuple(latent.shape)}, audio latent {tuple(sound.shape)}")
    kept = np.abs(nn.to_numpy(latent)[:, :, :1] - nn.to_numpy(image)).max()
    print(f"the given picture changed by {kept:.1e}")


if __name__ == "__main__":
    main()

"""
Generate a video with sound from a prompt, with the embedded toy or a checkpoint of your own.

    python examples/generate_video.py
    python examples/generate_video.py --prompt "a blue square moving down, a low tone" --first picture.png
    python examples/generate_video.py --checkpoint Lightricks/LTX-2.3 --memory 32 --prompt "A fox in snow."

The toy draws coloured shapes that move and sound, and nothing else; it ends in seconds.
"""

import argparse
import shlex
from pathlib import Path
from typing import Any

from ltx_models import LTX2Pipeline
from ltx_models.media import probe_video


def main() -> None:
    """Generate one video, tell its steps, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompt", default="a red circle moving right, a high tone")
    parser.add_argument("--checkpoint", help="a file, a folder or a repository, in place of the embedded toy")
    parser.add_argument("--backend", choices=("torch", "mlx"), default="torch")
    parser.add_argument("--device", help="of torch, such as cuda")
    parser.add_argument("--memory", type=float, metavar="GB", help="choose quantisation and offload for this much")
    parser.add_argument("--first", type=Path, metavar="FILE", help="a picture that becomes the first frame")
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("video.mp4"), metavar="FILE")
    options = parser.parse_args()
    more: dict[str, Any] = {} if options.checkpoint else {"dtype": "float32"}  # the toy is quickest so
    pipe = LTX2Pipeline.from_pretrained(
        options.checkpoint,
        backend=options.backend,
        device=options.device,
        memory_bytes=None if options.memory is None else int(options.memory * 2**30),
        **more,
    )
    if pipe.memory is not None:
        print(pipe.memory)
    latents = options.out.with_suffix(".safetensors")
    out = pipe(
        options.prompt,
        seed=options.seed,
        images=[] if options.first is None else [first_frame(options.first)],
        fit="crop",
        output=options.out,
        save_latents=latents,
        progress=lambda phase, done, total: print(f"{phase}: {done} of {total}", flush=True),
    )
    for note in out.notes:
        print(note)
    info = probe_video(options.out)
    print(f"{options.out}: {info.frames} frames of {info.width}x{info.height} at {info.fps} fps, {info.audio}")
    # the toy's autoencoder is found again; another checkpoint is named, with the dtype of this run
    again = ["ltx-models", "decode", str(latents), "--backend", options.backend, "--dtype", pipe.components.dtype]
    again += ["--checkpoint", options.checkpoint] if options.checkpoint else []
    print(f"{latents}; what makes the video again: {shlex.join([*again, '-o', 'again.mp4'])}")


def first_frame(path: Path) -> Any:
    """Give a picture as the first frame, uncompressed."""
    from ltx_models.pipelines import Image

    return Image(path, 0, 1.0, crf=0)


if __name__ == "__main__":
    main()

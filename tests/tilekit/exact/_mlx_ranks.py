"""What one of two processes of an MLX ring does for `test_strips_mlx`: ``python _mlx_ranks.py FOLDER [die]``."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx import nn

import tilekit
from tilekit import RankError, Strips


class Decoder(nn.Module):  # type: ignore[misc]
    """A decoder of images, with a group normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, padding=1)
        self.norm = nn.GroupNorm(4, 8, pytorch_compatible=True)
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def __call__(self, x: Any) -> Any:
        """Decode (B, H, W, C)."""
        x = nn.silu(self.norm(self.first(x)))
        x = mx.repeat(mx.repeat(x, 2, axis=1), 2, axis=2)
        return self.last(x)


def main(folder: Path, dies: bool) -> None:
    """Make one image together."""
    mx.set_default_device(mx.cpu)
    group = mx.distributed.init(strict=True, backend="ring")
    mx.random.seed(0)
    decode, z = Decoder(), mx.random.normal((1, 9, 7, 4))
    want, exact, strips = decode(z), tilekit.exact(decode), Strips(group)
    strip = exact(z, strips=strips)
    told: dict[str, Any] = {"error": mx.abs(strip.array - want[strip.place]).max().item()}
    told |= {"place": [[part.start, part.stop] for part in strip.place], "sent": strips.sent_bytes}
    whole = exact(z.astype(mx.float32), strips=Strips(group, gather=True))
    told["whole"] = None if whole is None else mx.abs(whole - want).max().item()
    path = folder / f"{group.rank()}.json"
    path.write_text(json.dumps(told))
    if dies and group.rank():
        os._exit(9)
    if dies:
        try:
            exact(z, strips=strips)
        except RankError as error:
            told["lost"] = str(error)
        path.write_text(json.dumps(told))
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "die" in sys.argv)

"""
See whether the prompt matters: generate every colour, shape and motion, and measure what came out.

    python -m training.toy.evaluate --seeds 1 --out evaluation.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from training.toy.grammar import RHYTHMS, TONES, Wish, all_pictures, plain
from training.toy.measure import Seen, measure

from ltx_models import LTX2Pipeline

WORDS = ("colour", "shape", "motion", "tone")
BESIDE = 0.3  # how far the balance of left and right, from -1 to 1, may be from that of the place of the shape


def main() -> None:
    """Generate, measure, and print how often each word came true."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="the embedded toy by default")
    parser.add_argument("--backend", choices=("torch", "mlx"), default="torch")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="float32")
    parser.add_argument("--seeds", type=int, default=1, help="clips of each prompt")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th combination")
    parser.add_argument("--out", type=Path, help="write all measurements there, as JSON")
    options = parser.parse_args()
    pipe = LTX2Pipeline.from_pretrained(options.checkpoint, backend=options.backend, dtype=options.dtype, keep=True)
    found = []
    for number, picture in enumerate(all_pictures()[:: options.every]):
        wish = replace(picture, tone=TONES[number % 4], rhythm=RHYTHMS[number // 4 % 2])
        for seed in range(options.seeds):
            out = pipe(plain(wish), seed=seed)
            found.append((wish, measure(out.frames[0], out.audio[0], out.sample_rate)))
    for label, chosen in (
        ("seen in training", [pair for pair in found if not pair[0].held_out]),
        ("held out", [pair for pair in found if pair[0].held_out]),
    ):
        print(f"{label}: {len(chosen)} clips; " + ", ".join(f"{word} {share:.0%}" for word, share in shares(chosen)))
    if options.out is not None:
        rows = [
            {"prompt": plain(wish), "held_out": wish.held_out, "wish": asdict(wish), "seen": asdict(seen)}
            for wish, seen in found
        ]
        options.out.write_text(json.dumps(rows, indent=1))


def shares(pairs: list[tuple[Wish, Seen]]) -> list[tuple[str, float]]:
    """Give the part of clips in which each word, and all of them, came true."""
    right: Any = np.array([[getattr(wish, word) == getattr(seen, word) for word in WORDS] for wish, seen in pairs])
    found = dict(zip(WORDS, right.mean(axis=0), strict=True))
    heard = [(wish, seen) for wish, seen in pairs if wish.tone != "none"]
    found["timbre of the shape"] = np.mean([wish.shape == seen.timbre for wish, seen in heard])
    found["sound from the place of the shape"] = np.mean([follows(seen) for _, seen in heard])
    return [(name, float(value)) for name, value in found.items()]


def follows(seen: Seen) -> bool:
    """Say whether the balance of left and right is that of the place of the shape, first and last."""
    return all(abs(one - other) < BESIDE for one, other in zip(seen.balance, seen.wanted, strict=True))


if __name__ == "__main__":
    main()

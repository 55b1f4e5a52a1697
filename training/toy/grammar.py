"""What the toy can be asked for, and the sentences that ask for it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

COLOURS = ("red", "yellow", "green", "blue", "white")
SHAPES = ("circle", "square", "triangle")
SHARES = (0.26, 0.32, 0.42)  # of each shape in training: the more corners it can lose, the more often it is shown
MOTIONS = ("left", "right", "up", "down", "still")
TONES = ("low", "middle", "high", "none")
RHYTHMS = ("steady", "beeping")
GROUNDS = ("black", "any")

NOUNS = {
    "circle": ("circle", "circle", "ball", "disc"),
    "square": ("square", "square", "box"),
    "triangle": ("triangle",),
}
MOVES = {
    "left": ("moving left", "moving to the left", "moves left", "goes to the left", "sliding left"),
    "right": ("moving right", "moving to the right", "moves right", "goes to the right", "sliding right"),
    "up": ("moving up", "moves up", "goes up", "rising", "moving upwards"),
    "down": ("moving down", "moves down", "goes down", "falling", "moving downwards"),
    "still": ("standing still", "that stands still", "not moving", "at rest"),
}
PITCHES = {"low": ("low", "deep"), "middle": ("middle", "medium"), "high": ("high",)}
SOUNDS = {
    "steady": ("a {} tone", "a {} tone", "a {} note", "a {} steady tone", "{} tone", "with a {} tone"),
    "beeping": ("{} beeps", "a {} beeping tone", "with {} beeps", "a {} beeping", "beeping {}"),
}
SILENCE = ("silence", "in silence", "no sound", "without sound", "silent")
PLACES = {"black": ("on black", "on a black background")}
OPENINGS = ("", "", "", "", "a video of ", "an animation of ")


@dataclass(frozen=True, slots=True)
class Wish:
    """
    What a prompt asks for.

    Attributes
    ----------
    colour, shape, motion, tone, rhythm, ground : str
        One of the words of `COLOURS` and so on.
    """

    colour: str
    shape: str
    motion: str
    tone: str = "middle"
    rhythm: str = "steady"
    ground: str = "any"

    @property
    def held_out(self) -> bool:
        """Whether no training clip shows this colour, shape and motion together: about one in nine does not."""
        places = COLOURS.index(self.colour), SHAPES.index(self.shape), MOTIONS.index(self.motion)
        return (places[0] + 2 * places[1] + 4 * places[2]) % 9 == 0


def all_pictures() -> list[Wish]:
    """List every colour, shape and motion together."""
    return [Wish(*words) for words in product(COLOURS, SHAPES, MOTIONS)]


def draw_wish(rng: np.random.Generator) -> Wish:
    """Draw what a training clip shows; never a combination that is held out."""
    while True:
        tone = TONES[rng.choice(4, p=(0.3, 0.3, 0.3, 0.1))]
        shape = SHAPES[rng.choice(3, p=SHARES)]
        wish = Wish(_one(rng, COLOURS), shape, _one(rng, MOTIONS), tone, _one(rng, RHYTHMS))
        if not wish.held_out:
            return Wish(wish.colour, wish.shape, wish.motion, tone, wish.rhythm, GROUNDS[int(rng.random() < 0.7)])


def caption(wish: Wish, rng: np.random.Generator) -> str:
    """
    Say it in one of many ways; sometimes not all of it, and sometimes with a word that means nothing.

    Examples
    --------
    >>> caption(Wish("red", "circle", "right", "high"), np.random.default_rng(2))
    'a red disc moving to the right, a high steady tone'
    """
    article = ("a ", "a ", "the ", "")[rng.integers(4)]
    move = "" if rng.random() < 0.04 else " " + _one(rng, MOVES[wish.motion])
    picture = f"{_one(rng, OPENINGS)}{article}{wish.colour} {_one(rng, NOUNS[wish.shape])}{move}"
    if wish.ground in PLACES:
        picture += " " + _one(rng, PLACES[wish.ground])
    parts = [picture] if rng.random() < 0.08 else [picture, _heard(wish, rng)]
    if rng.random() < 0.1:
        parts.reverse()
    words = _one(rng, (", ", ", ", " and ", ". ")).join(parts).split(" ")
    if rng.random() < 0.15:
        words.insert(int(rng.integers(len(words) + 1)), "[unk]")
    return " ".join(words)


def plain(wish: Wish) -> str:
    """
    Say all of it in the simplest way.

    Examples
    --------
    >>> plain(Wish("blue", "square", "up", "low", "beeping"))
    'a blue square moving up, a low beeping tone'
    """
    heard = "silence" if wish.tone == "none" else f"a {wish.tone} {'beeping ' * (wish.rhythm == 'beeping')}tone"
    ground = f" on {wish.ground}" if wish.ground in PLACES else ""
    return f"a {wish.colour} {wish.shape} {MOVES[wish.motion][0]}{ground}, {heard}"


def vocabulary() -> list[str]:
    """List the words of all sentences."""
    sentences = [
        *OPENINGS, *SILENCE, *COLOURS, "a an the and with of , . ! ? - :",
        *(text for texts in (*NOUNS.values(), *MOVES.values(), *PITCHES.values()) for text in texts),
        *(text.replace("{}", "") for texts in (*SOUNDS.values(), *PLACES.values()) for text in texts),
    ]  # fmt: skip
    return sorted({word for sentence in sentences for word in sentence.split()})


def _heard(wish: Wish, rng: np.random.Generator) -> str:
    if wish.tone == "none":
        return _one(rng, SILENCE)
    return _one(rng, SOUNDS[wish.rhythm]).format(_one(rng, PITCHES[wish.tone]))


def _one(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]

"""Which way, how large a strip, and what to keep, under a budget of bytes: by dry run."""

from collections.abc import Iterator
from functools import partial
from math import inf

from tilekit._errors import PlanError
from tilekit._exact.batches import gathered
from tilekit._exact.forecast import Scratch, no_scratch
from tilekit._exact.frontiers import Frontiers, Path
from tilekit._exact.garbage import uncollected
from tilekit._exact.graph import Graph
from tilekit._exact.lean import lean, leanest
from tilekit._exact.steps import Place
from tilekit._exact.trials import MOST, WRONG, Choice, Trials
from tilekit._exact.ways import LARGE, Slide, Tiles, slides
from tilekit.backends.limits import Limits

__all__ = ["chosen", "search"]

SAME = 1.005
"""Work up to which nothing that counts is made again."""
FLOOR, CAP = 1 << 18, 1 << 24
"""Bytes of the largest array in a strip: under these, strips are not worth their calls; up to these in a stream."""
LONG = 30_000
"""Operations above which more are not planned for without a budget: that takes as long as they do."""
HALVES = 2
"""Strips that are enough where they come down to the target, and say nothing of smaller ones where they do not."""
FEW = 16
"""Strips that are worth their calls whatever their size."""
GAIN = 0.9
"""The share of its memory that a plan must come down to for strips of half the size to be worth their calls."""
SLIGHTLY = 1.02
"""The share of a plain call that kernels, which take some memory for themselves, may take where it is not cut."""
SURE = 0.9
"""The share of a plain call that a plan which cuts nothing must come down to, as a forecast may be so much too low."""
ENOUGH = 1.6
"""Work up to which smaller strips are not tried for the sake of keeping more."""
ROUNDS = 8
"""Smaller and smaller frontiers that are looked at where nearly nothing is made again."""
CHEAPLY = 2
"""What choosing a tiling takes mostly, in dry runs of as many operations as the graph has nodes."""
LOWER, STEP = 2, 0.9
"""How often less than the least is looked for, and the share of it that is asked for then."""
MIB = 1 << 20


def search(  # noqa: PLR0913  what a plan depends on
    graph: Graph,
    memory_bytes: int | None = None,
    scratch: Scratch = no_scratch,
    *,
    stream: bool = False,
    spill: Place | None = None,
    limits: Limits | None = None,
    plain_scratch: Scratch = no_scratch,
    small: int = 0,
    itself: Graph | None = None,
) -> Choice:
    """
    Choose how a graph is evaluated.

    Parameters
    ----------
    graph : Graph
        The function.
    memory_bytes : int, optional
        What live arrays may take at the peak: without the input and the weights, and without the result where
        `stream`. Default: half of a plain call, or as near to that as goes without making anything again.
    scratch : callable
        What kernels take for themselves.
    stream : bool
        The output is handed out in blocks, in order.
    spill : {"host", "disk"}, optional
        Where arrays between stages may lie if the device is too small for them.
    limits : Limits, optional
        What the device gets right; no plan has a larger array or operation.
    plain_scratch : callable
        What the library takes for itself in a plain call.
    small : int
        Bytes up to which a plain call is not cut where no budget is given, unless kernels would take more than it does.
    itself : Graph, optional
        One operation that calls the function as it is: what is chosen where no plan takes less.

    Returns
    -------
    Choice
        Of all ways within the budget, one of least work, and of these one of fewest operations.

    Raises
    ------
    PlanError
        If no way stays within the budget or the limits; the text names the least that one takes.
    """
    with uncollected():
        ways = slides(graph, stream=stream)
        trials = Trials(graph, scratch, ways, stream=stream, limits=limits, plain_scratch=plain_scratch, itself=itself)
        little = trials.whole if trials.itself is None else min(trials.whole, trials.itself, key=lambda c: c.peak_bytes)
        if memory_bytes is None and not stream and little.peak_bytes <= small:
            return _uncut(trials)
        choice = chosen(trials, memory_bytes, spill)
        return choice if stream or memory_bytes is not None else gathered(trials, choice)


def chosen(trials: Trials, memory_bytes: int | None = None, spill: Place | None = None) -> Choice:
    """Choose among the ways of some trials, as `search` does."""
    if memory_bytes is None:
        usual = _usual(trials)
        if usual.peak_bytes <= trials.plain_bytes:
            return usual
        below = _within(trials, trials.plain_bytes, spill) or _least(trials, spill)
        if below.peak_bytes <= trials.plain_bytes:
            return below
        if trials.itself is not None:
            return trials.itself
        if usual.peak_bytes < WRONG:
            return usual
        memory_bytes = WRONG - 1
    held = _within(trials, memory_bytes, spill)
    if held is not None:
        return held
    best = _least(trials, spill)
    if trials.itself is not None and trials.itself.peak_bytes < best.peak_bytes:
        best = trials.itself
    if best.peak_bytes <= memory_bytes:
        return best
    least = best.peak_bytes
    if least >= WRONG:
        msg = f"no plan keeps every step small enough for the device: {best.worst}; give a smaller input"
        raise PlanError(msg)
    msg = (
        f"memory_bytes: got {memory_bytes} ({memory_bytes / MIB:.1f} MiB), but the plan that needs least takes {least} "
        f"({least / MIB:.1f} MiB); give at least that, or a smaller input"
    )
    raise PlanError(msg)


def _uncut(trials: Trials) -> Choice:
    """Choose where nothing is worth cutting: the plain call, unless its own operations surely take less."""
    if trials.itself is None:
        return _same(trials, int(trials.plain_bytes * SLIGHTLY)) or trials.whole
    return trials.whole if trials.whole.peak_bytes <= SURE * trials.plain_bytes else trials.itself


def _within(trials: Trials, budget: int, spill: Place | None) -> Choice | None:
    """Choose within a budget: nothing twice, else what is kept elsewhere, else the least work."""
    held = _same(trials, budget) or _spilled(trials, budget, spill) or lean(trials, budget)
    if held is not None and held.work <= ENOUGH:
        return held
    tries = (choice for choice in (_again(trials, budget), held) if choice is not None)
    return min(tries, key=lambda choice: (round(choice.work, 2), choice.cost), default=None)


def _usual(trials: Trials) -> Choice:
    """Choose where no budget is given: the fewest calls at half of the memory of a plain call, with nothing twice."""
    target = (trials.most_bytes if trials.stream else trials.plain_bytes) // 2
    held: list[Choice] = []
    for way in sorted(trials.slides, key=lambda way: way.scattered):
        if way.scattered and any(choice.peak_bytes <= target for choice in held):
            break
        choice = _roomy(trials, way, target)
        if choice is not None and choice.work <= SAME:
            held.append(choice)
    if not held or not trials.stream:
        held.append(trials.whole)
    limit = max(target, int(min(choice.peak_bytes for choice in held) / GAIN))
    return min((choice for choice in held if choice.peak_bytes <= limit), key=lambda choice: choice.cost)


def _roomy(trials: Trials, way: Slide, target: int) -> Choice | None:
    """Give the largest strips that come down to a target, or as near to it as is worth the calls."""
    path = way.frontiers.lasting
    if path.held >= trials.most_bytes:
        return None
    target = max(target, path.held + (trials.most_bytes - path.held) // 4)
    fewest = trials.largest // CAP if trials.stream else 0
    best: Choice | None = None
    halves = () if trials.stream or len(trials.graph.nodes) > LARGE else (HALVES,)
    for count in (*halves, *trials.usual):
        small = count > FEW and trials.largest // count < FLOOR
        if best is not None and small:
            break
        if count < min(fewest, trials.usual[-1]):
            continue
        choice = trials.attempt(way, way.stages(path, trials.largest // count))
        if count == HALVES and choice is not None and choice.peak_bytes > target:
            continue
        if choice is None or (best is not None and GAIN * best.peak_bytes < choice.peak_bytes < WRONG):
            break
        best = choice
        if choice.peak_bytes <= target or choice.operations > LONG:
            break
    return best


def _same(trials: Trials, budget: int) -> Choice | None:
    """Give the way of fewest operations that makes nothing again."""
    whole = trials.whole
    fits = whole.peak_bytes <= budget
    if fits and not trials.stream:
        return whole
    held: list[Choice] = []
    for way in sorted(trials.slides, key=lambda way: way.scattered):
        if way.scattered and held:
            break
        most = min((choice.cost for choice in held), default=inf)
        choice = _strips(trials, way, way.frontiers.lasting, budget, most=most)
        if choice is None and not held and _counts(way.frontiers.lasting, budget):
            nearly = _nearly(trials, way, budget)
            choice = None if nearly is way.frontiers.lasting else _strips(trials, way, nearly, budget)
        if choice is not None and choice.work <= SAME:
            held.append(choice)
    return min(held, key=lambda choice: choice.cost, default=whole if fits else None)


def _nearly(trials: Trials, way: Slide, budget: int) -> Path:
    """Give the path that keeps least of those that make nearly nothing again; the lasting one where none fits."""
    best = way.frontiers.lasting
    fits = trials.within(way, budget, SAME)
    if fits is None or way.frontiers.again(fits) > SAME:
        return best
    for _ in range(ROUNDS):
        path = trials.within(way, best.held - 1, SAME)
        if path is None or way.frontiers.again(path) > SAME:
            break
        best = path
    return best


def _ladder(trials: Trials, way: Slide) -> Iterator[Path]:
    """Give paths that keep less and less, from the one that makes nothing again on."""
    path: Path | None = way.frontiers.lasting
    while path is not None:
        yield path
        path = trials.within(way, path.held * 3 // 4) if path.held * MOST > trials.most_bytes else None


def _counts(path: Path, budget: int) -> bool:
    """Whether a plan may come to fit a budget by keeping less between stages."""
    return path.held * 2 > budget


def _spilled(trials: Trials, budget: int, spill: Place | None) -> Choice | None:
    """Give the same with what is kept in another place."""
    if spill is None:
        return None
    held = [_strips(trials, way, way.frontiers.lasting, budget, spill) for way in trials.slides]
    return min((c for c in held if c is not None), key=lambda choice: choice.cost, default=None)


def _strips(  # noqa: PLR0913
    trials: Trials, way: Slide, path: Path, budget: int, place: Place = "device", *, most: float = inf
) -> Choice | None:
    """Give the largest strips that stay within a budget."""
    held = path.held if place == "device" else 0
    first = 4 if trials.stream else 2
    return trials.largest_strips(way, partial(way.stages, path, place=place), budget, held=held, first=first, most=most)


def _again(trials: Trials, budget: int) -> Choice | None:
    """Give the way of least work, where something must be made again."""
    if len(trials.graph.nodes) > LARGE:  # few tilings, and a long search for what to keep
        held = list(_tiled(trials, budget))
        held += _remade(trials, budget, min((choice.work for choice in held), default=Frontiers.MOST))
    else:
        held = [*_remade(trials, budget), *_tiled(trials, budget)]
    return min(held, key=lambda choice: (round(choice.work, 2), choice.cost), default=None)


def _remade(trials: Trials, budget: int, most: float = Frontiers.MOST) -> Iterator[Choice]:
    """Give ways that keep less at barriers: as much as strips leave of the budget; `most` is the most work."""
    ranked = sorted(trials.slides, key=lambda way: (way.frontiers.lasting.held, way.scattered, len(way.barriers.goals)))
    for way in [way for way in ranked if _counts(way.frontiers.lasting, budget)][:2]:
        for counts in ((64, 32, 16), (256,)):  # large graphs have larger strips, which are counted sooner
            tries = (_fitted(trials, way, trials.largest // count, budget, most) for count in counts)
            choice = next((choice for choice in tries if choice is not None), None)
            if choice is not None and choice.peak_bytes <= budget:
                yield choice
                if choice.work < ENOUGH:
                    break


def _fitted(trials: Trials, way: Slide, size: int, budget: int, most: float) -> Choice | None:
    """Give the most that may be kept between stages with strips of one size."""
    allowance = budget
    for _ in range(5):
        path = trials.within(way, allowance, most)
        if path is None or trials.hopeless(way, path.held, budget):
            return None
        choice = trials.attempt(way, way.stages(path, size), way.frontiers.again(path))
        if choice is None or choice.peak_bytes <= budget:
            return choice
        allowance = min(path.held - 1, budget - max(0, choice.peak_bytes - path.held))
    return None


def _tiled(trials: Trials, budget: int) -> Iterator[Choice]:
    """Give ways with tiles, up to the first grid that is fine enough."""
    found: Tiles | None = None
    for way in trials.tilings():
        if found is not None and way.grid != found.grid:
            return
        choice = trials.largest_strips(way, way.stages, budget, held=way.held, first=1)
        if choice is not None:
            found = way
            yield choice


def _least(trials: Trials, spill: Place | None) -> Choice:
    """Give what takes least of all ways, whatever was tried before: so a least that is named is accepted."""
    found = (_smallest(trials), leanest(trials))
    best = min((choice for choice in found if choice is not None), key=lambda choice: choice.peak_bytes)
    for _ in range(LOWER):
        held = _within(trials.anew(), int(STEP * best.peak_bytes), spill)
        if held is None:
            break
        best = held
    return best


def _smallest(trials: Trials) -> Choice:
    """Give what takes least of tiles, and of ways that keep as little as can be."""
    finest = _finest(trials.anew(2))
    trials = trials.anew()
    trials.best = finest
    held = [(way, path) for rungs in _rungs(trials) for way, path in rungs]
    held.sort(key=lambda row: (row[0].frontiers.again(row[1]) > ENOUGH, row[1].held, row[0].scattered))
    for way, path in held:
        _small(trials, way, path)
    return trials.best


def _finest(trials: Trials) -> Choice:
    """Give what takes least of tiles: whole ones of each grid, then those that take least in the smallest strips."""
    rows: list[tuple[int, int, Tiles]] = []
    for tiled in trials.tilings(CHEAPLY):
        if tiled.held < trials.best.peak_bytes:
            choice = trials.attempt(tiled, tiled.stages(trials.largest))
            if choice is not None:
                rows.append((choice.peak_bytes, len(rows), tiled))
    for _, _, tiled in sorted(rows)[:1]:
        for count in (MOST, MOST // 16):
            if trials.attempt(tiled, tiled.stages(trials.largest // count)) is not None:
                break
    return trials.best


def _rungs(trials: Trials) -> Iterator[list[tuple[Slide, Path]]]:
    """Give the next path down of each way in turn, so that one way does not use up what all may take."""
    ladders = [(way, _ladder(trials, way)) for way in trials.slides]
    while rungs := [(way, path) for way, ladder in ladders if (path := next(ladder, None)) is not None]:
        yield rungs


def _small(trials: Trials, way: Slide, path: Path) -> None:
    """Try smaller and smaller strips, as long as that helps and does not take too long to count."""
    before, last = WRONG, 0
    for count in (2, 4, 16, 64, 256, MOST):
        if path.held >= trials.best.peak_bytes or trials.hopeless(way, path.held, trials.best.peak_bytes):
            return
        choice = trials.attempt(way, way.stages(path, trials.largest // count), way.frontiers.again(path))
        if choice is None or before <= choice.peak_bytes < WRONG:  # too large for the device: smaller ones may fit
            return
        if last:
            trials.compare(way, path.held, (last, before), (count, choice.peak_bytes))
        before, last = choice.peak_bytes, count

"""One line of the table: a figure of a world, how sure it is, and what it is to be read against.

Games are what is drawn at random, so a figure is a function of games, and its interval comes from drawing them anew
(Efron's percentile bootstrap): it says what other starts would have given, not what other weights would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

RESAMPLES = 1000
SURE = 95.0  # per cent of the resamples that lie within an interval

Figure = Callable[[np.ndarray], float | None]
"""A figure over the games with the given numbers, some of them more than once; None where it cannot be told."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """`world` is what was measured on the world's frames, `truth` the same on true frames (what the probe can see at
    best), each with the interval of 95 %; `copy` what repeating the first frame would score, `target` the aim."""

    group: str
    name: str
    world: float | None
    truth: float | None = None
    copy: float | None = None
    target: str = ""
    met: bool | None = None
    interval: Interval | None = None
    truth_interval: Interval | None = None


def measure(
    group: str, name: str, games: int, world: Figure, truth: Figure | float | None = None, copy: Figure | None = None
) -> Row:
    """The row of a figure over all games, with intervals."""
    every = np.arange(games)
    ideal = truth(every) if callable(truth) else truth
    return Row(
        group,
        name,
        world(every),
        ideal,
        copy(every) if copy is not None else None,
        interval=interval(world, games),
        truth_interval=interval(truth, games) if callable(truth) else None,
    )


def interval(figure: Figure, games: int) -> Interval | None:
    """Where the figure lies when games are drawn anew, with replacement; None where it cannot be told, or of one game.

    The same games are drawn each time, so that two worlds in the same games can be compared.
    """
    if games < 2:
        return None
    draws = np.random.default_rng(0).integers(0, games, (RESAMPLES, games))
    values = [value for value in map(figure, draws) if value is not None]
    if not values:
        return None
    low, high = np.percentile(values, [50 - SURE / 2, 50 + SURE / 2])
    return float(low), float(high)


def mean_of(values: np.ndarray) -> Figure:
    """The mean over games of a value each, (B) or (B, ...)."""
    return lambda games: float(values[games].mean())


def slope_of(found: np.ndarray, true: np.ndarray) -> Figure:
    """The least-squares slope through the origin of `found` over `true`, (B) each."""

    def figure(games: np.ndarray) -> float | None:
        square = float(np.square(true[games]).sum())
        return float((found[games] * true[games]).sum()) / square if square else None

    return figure


def at_least(row: Row, floor: float) -> Row:
    """Judged by whether it reaches `floor`; where the probe falls short of it on true frames, not judged."""
    if row.truth is not None and row.truth < floor:
        return _judged(row, f">= {floor:g}, beyond the probe", None)
    return _judged(row, f">= {floor:g}", None if row.world is None else row.world >= floor)


def near_truth(row: Row) -> Row:
    """Judged by whether it is within 15 % of the same measurement on true frames, whose own bias it shares."""
    met = None if row.world is None or not row.truth else abs(row.world / row.truth - 1.0) <= 0.15
    return _judged(row, "true +- 15 %", met)


def at_most(row: Row, ceiling: float) -> Row:
    return _judged(row, f"<= {ceiling:g}", None if row.world is None else row.world <= ceiling)


def _judged(row: Row, target: str, met: bool | None) -> Row:
    return replace(row, target=target, met=met)

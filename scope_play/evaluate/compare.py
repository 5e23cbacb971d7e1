"""Several worlds in the same games, side by side: a teacher offline and streamed, and what was distilled from it.

    python -m scope_play.evaluate.compare runs/teacher/weights:offline runs/teacher/weights:mode=window,steps=4 \\
        runs/student/weights --games 12 --out runs/compared

A world is a folder of weights, after a colon its mode, steps or shift where they are not the weights' own, or
`offline`. Games are of four seconds, the length of a clip that is made offline, and their start images are recognised
once. What is measured is what `scope-play eval` measures in mixed play, with the same intervals.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from scope_play.actions import FPS
from scope_play.errors import ScopeError
from scope_play.evaluate import report, suite
from scope_play.evaluate.drift import drift
from scope_play.evaluate.offline import CLIP_LATENTS, OfflineWorld
from scope_play.evaluate.probe import Probe, load_probe
from scope_play.evaluate.rollout import roll_out
from scope_play.evaluate.rows import Row
from scope_play.evaluate.trials import FIRST_SEED, Trial, Trials
from scope_play.sampling.clip import Sampling
from scope_play.session.interfaces import WorldLike
from scope_play.world import World

SECONDS = 4 * (CLIP_LATENTS - 1) / FPS
SHOWN = ("button F1", "stick R2", "PSNR to truth, dB", "drift, multiple of true play's")
"""Groups of rows that the table has."""
READ, READABLE = ("button F1", "stick R2"), 0.8
"""What the probe reads is left out where it scores less on true frames."""
SETTINGS = {"mode": str, "steps": int, "shift": float, "action_guidance": float}


def open_compared(word: str) -> World | OfflineWorld:
    """The world that a word of the command line names; offline it takes 30 steps if nothing is said.

    Raises ScopeError for settings that there are not.
    """
    model, _, rest = word.partition(":")
    settings: dict[str, Any] = {}
    offline = False
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        if name == "offline":
            offline = True
            continue
        try:
            settings[name] = SETTINGS[name](value)
        except (KeyError, ValueError) as error:
            known = ", ".join(SETTINGS)
            raise ScopeError(f"{word}: {part!r} is no setting; give {known} or offline, such as steps=4") from error
    world = World.load(model, **settings)
    return OfflineWorld(world.model, steps=settings.get("steps", Sampling.steps)) if offline else world


def measured(probe: Probe, trial: Trial, world: World | OfflineWorld, out: Path | None = None) -> list[Row]:
    """The rows of one world in the games of `trial`; its sheet goes to `out`."""
    made = roll_out(cast(WorldLike, world), trial)  # of a game it asks for steps alone, which offline ones have too
    if out is not None:
        report.write_sheet(out, trial, made, (0, 0.4, 1, 2, 3, 4))
    return [
        *suite.controls(probe, trial, made, Trials(world.spec.height, world.spec.width).config),
        *suite.horizons(probe, trial, made),
        *drift(probe, trial, made),
    ]


def side_by_side(found: Mapping[str, Sequence[Row]]) -> str:
    """A table in Markdown: first what true frames score, then a line for each world, with intervals."""
    columns = [
        index
        for index, row in enumerate(next(iter(found.values())))
        if row.group in SHOWN and (row.group not in READ or (row.truth or 0) >= READABLE)
    ]
    heads = [next(iter(found.values()))[index] for index in columns]
    lines = [["", *(f"{row.group} {row.name}" for row in heads)], ["---"] * (len(heads) + 1)]
    lines.append(["true frames", *("" if row.truth is None else f"{row.truth:.2f}" for row in heads)])
    lines += [[world, *(_cell(rows[index]) for index in columns)] for world, rows in found.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(row: Row) -> str:
    around = "" if row.interval is None else f" ({row.interval[0]:.2f} to {row.interval[1]:.2f})"
    return "" if row.world is None else f"{row.world:.2f}{around}"


def _codec_hash(world: World | OfflineWorld) -> bytes:
    """What is alike in worlds that recognise a start image alike."""
    codec = world.model.codec
    assert isinstance(codec, nn.Module)
    parts = [part.detach().cpu().contiguous().numpy().tobytes() for part in codec.state_dict().values()]
    return hashlib.sha256(b"".join(parts)).digest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scope_play.evaluate.compare", description=__doc__)
    parser.add_argument("worlds", nargs="+", metavar="WORLD")
    parser.add_argument("--games", type=int, default=12)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    probe, _ = load_probe()
    found: dict[str, list[Row]] = {}
    trials: dict[tuple[int, int], Trial] = {}
    starts: dict[bytes, dict[bytes, Tensor]] = {}
    for number, word in enumerate(args.worlds):
        world = open_compared(word)
        world.model.starts = starts.setdefault(_codec_hash(world), {})
        size = world.spec.height, world.spec.width
        if size not in trials:
            seeds = range(FIRST_SEED, FIRST_SEED + args.games)
            trials[size] = Trials(*size).mixed(seeds, round(SECONDS * FPS))
        found[word] = measured(probe, trials[size], world, args.out / f"{number}.png")
        setup: dict[str, object] = {"world": word, "identity": world.identity, "games": args.games}
        report.write_json(args.out / f"{number}.json", setup, found[word])
        (args.out / "table.md").write_text(side_by_side(found) + "\n", encoding="utf-8")
        print(f"{word}: {', '.join(f'{row.name} {row.world:.2f}' for row in found[word] if row.world is not None)}")
    print(side_by_side(found))


if __name__ == "__main__":
    main()

"""A method's recipe: the file that comes with the app, what a file of one's own changes in it, and single words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.records import read_record
from scope_play.train.methods.causal import Causal
from scope_play.train.methods.consistency import Consistency
from scope_play.train.methods.dmd import DMD
from scope_play.train.methods.flow import Flow
from scope_play.train.methods.method import Method
from scope_play.train.methods.passes import Guidance
from scope_play.train.methods.trainer import TrainerConfig
from scope_play.train.parallel.shard import LoraConfig


@dataclass(frozen=True)
class FlowSettings:
    lowest: float
    shift: float
    text_dropout: float
    action_dropout: float

    def method(self, no_text: Tensor | None) -> Method:
        return Flow(self.shift, self.text_dropout, self.action_dropout, no_text, self.lowest)


@dataclass(frozen=True)
class CausalSettings:
    window: int
    lowest: float
    shift: float
    context_noise: float
    text_dropout: float
    action_dropout: float

    def method(self, no_text: Tensor | None) -> Method:
        return Causal(
            self.window, self.shift, self.context_noise, self.text_dropout, self.action_dropout, no_text, self.lowest
        )


@dataclass(frozen=True)
class ConsistencySettings:
    window: int
    steps: int
    shift: float
    exact: float
    text_guidance: float
    action_guidance: float

    def method(self, no_text: Tensor | None) -> Method:
        guidance = Guidance(self.text_guidance, self.action_guidance, no_text)
        return Consistency(self.window, self.steps, self.shift, self.exact, guidance)


@dataclass(frozen=True)
class DMDSettings:
    window: int
    steps: int
    shift: float
    critic_steps: int
    lowest: float
    highest: float
    judge_shift: float
    ends_anywhere: bool
    text_guidance: float
    action_guidance: float

    def method(self, no_text: Tensor | None) -> Method:
        return DMD(
            self.window,
            self.steps,
            self.shift,
            self.lowest,
            self.highest,
            self.judge_shift,
            self.critic_steps,
            self.ends_anywhere,
            Guidance(self.text_guidance, self.action_guidance, no_text),
        )


Settings = FlowSettings | CausalSettings | ConsistencySettings | DMDSettings
KINDS: Mapping[str, type[Settings]] = {
    "flow": FlowSettings,
    "causal": CausalSettings,
    "consistency": ConsistencySettings,
    "dmd": DMDSettings,
}


@dataclass(frozen=True)
class Recipe:
    """`lora` is None where every weight is trained."""

    kind: str
    trainer: TrainerConfig
    settings: Settings
    lora: LoraConfig | None

    @property
    def causal(self) -> bool:
        """Whether what comes of it streams natively."""
        return self.kind != "flow"

    def sampling(self) -> dict[str, Any]:
        """How the student is to be streamed."""
        few = self.kind in ("dmd", "consistency")
        steps = self.settings.steps if self.kind == "dmd" and isinstance(self.settings, DMDSettings) else 4
        window = getattr(self.settings, "window", 12)
        return {"steps": steps, "shift": self.settings.shift, "window": window, "guidance": 1.0 if few else 5.0}


def read_recipe(kind: str, file: Path | None = None, words: Sequence[str] = ()) -> Recipe:
    """`words` are like `trainer.lr=1e-4`. Raises ScopeError naming a key that is not known or has another type."""
    shipped = Path(__file__).parent / "recipes" / f"{kind}.toml"
    values = _toml(shipped)
    for source, more in [(str(file), _toml(file) if file is not None else {}), *[_word(word) for word in words]]:
        for section, entries in more.items():
            if section not in values or not isinstance(entries, dict):
                raise ScopeError(f"{source} has no section {section!r}; known are {', '.join(values)}")
            for key, value in entries.items():
                if key not in values[section] and not hasattr(TrainerConfig, key):
                    raise ScopeError(f"{source} has no {section}.{key}; known are {', '.join(values[section])}")
                values[section][key] = value
    trainer = read_record(TrainerConfig, _tuples(values["trainer"]), f"the recipe of {kind}", "trainer")
    settings = read_record(KINDS[kind], values["method"], f"the recipe of {kind}", "method")
    lora = read_record(LoraConfig, values["lora"], f"the recipe of {kind}", "lora") if values["lora"]["rank"] else None
    return Recipe(kind, trainer, settings, lora)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except (OSError, ValueError) as error:
        raise ScopeError(f"the recipe {path} cannot be read ({error}); correct that line") from error


def _word(word: str) -> tuple[str, dict[str, Any]]:
    name, _, value = word.partition("=")
    section, _, key = name.partition(".")
    if not (key and value):
        raise ScopeError(f"--set {word} must be SECTION.KEY=VALUE, such as trainer.lr=1e-4")
    try:
        return f"--set {word}", {section: {key: tomlkit.parse(f"x = {value}").unwrap()["x"]}}
    except ValueError as error:
        raise ScopeError(f"--set {word} has no value of TOML ({error}); quote words") from error


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}

"""One method's training from words to weights: networks by role, shards, the loop, and what is left at its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scope_play.errors import ScopeError
from scope_play.files import for_people
from scope_play.loading.device import pick_device
from scope_play.model.dit.dit import DiT
from scope_play.records import to_json
from scope_play.train.checkpoint import checkpoints
from scope_play.train.loop import Budget, Run, require_no_run
from scope_play.train.methods.method import CRITIC, STUDENT, TEACHER
from scope_play.train.methods.trainer import MethodTrainer
from scope_play.train.nano import fit_and_cool
from scope_play.train.optim.precision import fast_bf16
from scope_play.train.parallel.ranks import Ranks, joined
from scope_play.train.parallel.shard import add_lora, remember_less, shard
from scope_play.train.parallel.store import DistributedStore
from scope_play.train.shards.source import ShardSource
from scope_play.train.tune.finish import LORA, write_card, write_lora, write_weights
from scope_play.train.tune.recipe import Recipe, read_recipe
from scope_play.train.tune.start import Start, open_start


@dataclass(frozen=True)
class Request:
    """What the command line says; see `commands/train_methods.py`."""

    kind: str
    data: Path
    start: str
    out: Path
    teacher: str | None = None
    critic: str | None = None
    loras: tuple[str, ...] = ()
    wan: str | None = None
    recipe: Path | None = None
    words: tuple[str, ...] = ()
    steps: int | None = None
    minutes: float | None = None
    resume: Path | None = None
    seed: int = 0
    device: str | None = None
    precision: str = "auto"
    checkpoints: bool = False
    cool: bool = False


def train_method(request: Request, report: Callable[[str], None] = print) -> None:
    """Trains, on as many ranks as torchrun has started, and leaves `weights/` and, with LoRA, `lora.safetensors`.

    Raises ScopeError naming what is missing or does not fit, before anything is written.
    """
    recipe = read_recipe(request.kind, request.recipe, request.words)
    device = pick_device(request.device)
    budget = Budget(minutes=request.minutes, steps=request.steps)
    with joined(device.type) as ranks:
        if request.resume is None or request.resume.resolve() != request.out.resolve():
            require_no_run(request.out)
        source = ShardSource(request.data, latents=recipe.trainer.latents, seed=request.seed)
        start = open_start(request.start, wan=request.wan, loras=request.loras)
        bf16 = request.precision == "bf16" or (request.precision == "auto" and fast_bf16(device))
        networks = _networks(request, recipe, start, source, ranks, _place(device, ranks), bf16)
        trainer = MethodTrainer(
            request.kind,
            recipe.settings.method(source.no_text()),
            networks,
            source,
            recipe.trainer,
            described={"start": start.described, "lora": None if recipe.lora is None else to_json(recipe.lora)},
            seed=request.seed,
            device=_place(device, ranks),
            bf16=bf16,
            ranks=ranks,
        )
        store = DistributedStore(ranks)
        run = Run(request.out, trainer, sheet_every=None, log_every=1, report=report, store=store, ranks=ranks)
        own = request.resume is not None and request.resume.resolve() == request.out.resolve()
        if request.resume is not None and not (own and not checkpoints(request.out)):  # a job's first part has none yet
            run.resume(request.resume)
        if request.cool:
            fit_and_cool(run, budget)
        else:
            run.fit(budget)
        _leave(request, recipe, start, networks[STUDENT], ranks, report)


def _place(device: torch.device, ranks: Ranks) -> torch.device:
    return torch.device("cuda", ranks.local) if device.type == "cuda" else device


def _networks(
    request: Request,
    recipe: Recipe,
    start: Start,
    source: ShardSource,
    ranks: Ranks,
    device: torch.device,
    bf16: bool,
) -> dict[str, DiT]:
    """By role; each is read, changed and spread before the next is read."""
    roles = recipe.settings.method(None).roles
    where = {STUDENT: request.start, TEACHER: request.teacher or request.start}
    where[CRITIC] = request.critic or where[TEACHER]
    networks = {}
    for role, learns in roles.items():
        opened = start if role == STUDENT else open_start(where[role], wan=request.wan)
        network = opened.network()
        _check(opened, network, source)
        network.requires_grad_(learns).train(learns)  # as opened, no weight learns
        if learns and recipe.lora is not None:
            add_lora(network, recipe.lora, request.seed)
        if learns and request.checkpoints:
            remember_less(network)
        networks[role] = shard(network, ranks, device, bf16)
    return networks


def _check(start: Start, network: DiT, source: ShardSource) -> None:
    channels, *_ = source.shape
    if network.config.out_channels != channels:
        raise ScopeError(
            f"{start.place.name} knows latents of {network.config.out_channels} channels, but "
            f"{for_people(source.folder)} holds {channels}; encode the clips with this model"
        )
    if (network.config.text_dim is None) != (source.no_text() is None):
        takes, holds = network.config.text_dim is not None, source.no_text() is not None
        raise ScopeError(
            f"{start.place.name} {'takes' if takes else 'takes no'} prompts, but {for_people(source.folder)} holds "
            f"{'some' if holds else 'none'}; encode the clips with this model"
        )


def _leave(
    request: Request,
    recipe: Recipe,
    start: Start,
    network: DiT,
    ranks: Ranks,
    report: Callable[[str], None],
) -> None:
    weights = request.out / "weights"
    if recipe.lora is not None:
        write_lora(request.out / LORA, network, recipe, ranks)
    write_weights(weights, start, network, recipe, ranks)
    if not ranks.leads:
        return
    write_card(weights / "README.md", recipe, start, _last_figures(request.out), request.data)
    report(f"to play it: scope-play play --model {for_people(weights)}")


def _last_figures(out: Path) -> dict[str, Any]:
    path = out / "metrics.jsonl"
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {name: value for name, value in json.loads(lines[-1]).items() if name != "time"} if lines else {}

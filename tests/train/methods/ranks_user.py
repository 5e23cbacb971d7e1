"""One process of a training on several, started by `test_ranks.py` as torchrun would: a small network, flow matching.

Arguments: folder, steps in all, "full", "lora", "dmd" or "bf16", and the folder to resume from, if any. Prints each
step's loss.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.train.loop import Budget, Run
from scope_play.train.methods.batch import ClipBatch
from scope_play.train.methods.dmd import DMD
from scope_play.train.methods.flow import Flow
from scope_play.train.methods.method import Method
from scope_play.train.methods.passes import Guidance
from scope_play.train.methods.trainer import MethodTrainer, TrainerConfig
from scope_play.train.parallel.ranks import joined
from scope_play.train.parallel.shard import LoraConfig, add_lora, remember_less, shard
from scope_play.train.parallel.store import DistributedStore

SMALL = DiTConfig(dim=32, layers=2, heads=2, ffn_dim=48, in_channels=4, out_channels=4, text_dim=8)


class Drawn:
    def batch(self, samples: range, latents: int, step: int) -> ClipBatch:
        drawn = []
        for number in samples:
            draw = torch.Generator().manual_seed(1000 * step + number)
            rows = torch.rand(4 * (latents - 1), 10, generator=draw) * 2 - 1
            drawn.append((torch.randn(4, latents, 4, 4, generator=draw), rows, torch.randn(6, 8, generator=draw)))
        latent, rows, context = (torch.stack(part) for part in zip(*drawn, strict=True))
        return ClipBatch(latent, (rows[..., :6] > 0).float(), rows[..., 6:], context)


def train(folder: Path, steps: int, kind: str, resume: Path | None = None) -> list[float]:
    """The losses of all steps, of the process that leads."""
    losses: list[float] = []

    def tell(line: str) -> None:
        said = json.loads(line)
        losses.extend(said[name] for name in ("velocity_error", "critic_error", "direction") if name in said)

    with joined("cpu") as ranks:
        method: Method = Flow()
        if kind == "dmd":
            method = DMD(window=2, steps=2, critic_steps=1, guidance=Guidance(2.0, 1.0, torch.zeros(1, 6, 8)))
        networks = {}
        for number, role in enumerate(method.roles):
            torch.manual_seed(number)
            network = DiT(SMALL)
            for parameter in network.parameters():
                torch.nn.init.normal_(parameter, std=0.1)
            if kind == "lora":
                add_lora(network, LoraConfig(4, 8))
            networks[role] = shard(remember_less(network), ranks, torch.device("cpu"), bf16=kind == "bf16")
        config = TrainerConfig(batch=4, micro_batch=1, latents=4, lr=3e-3, critic_lr=3e-3, warmup=2)
        trainer = MethodTrainer(
            "flow", method, networks, Drawn(), config, described={}, ranks=ranks, bf16=kind == "bf16"
        )
        store = DistributedStore(ranks)
        run = Run(folder, trainer, sheet_every=None, log_every=1, store=store, ranks=ranks, report=tell)
        if resume is not None:
            run.resume(resume)
        run.fit(Budget(steps=steps))
    return losses


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(train(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], *map(Path, sys.argv[4:]))))

"""The processes of one training, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process's number among `count`; `local` its number on this machine, which is its GPU's."""

    rank: int
    count: int
    local: int

    @classmethod
    def alone(cls) -> Ranks:
        return cls(0, 1, 0)

    @property
    def leads(self) -> bool:
        """Whether this process writes and tells."""
        return self.rank == 0

    def agree(self, here: bool) -> bool:
        """Whether it is so on any rank: all go on, or none."""
        if self.count == 1:
            return here
        said = torch.tensor(float(here))
        if torch.distributed.get_backend() == "nccl":
            said = said.cuda()
        torch.distributed.all_reduce(said, torch.distributed.ReduceOp.MAX)
        return bool(said.item())

    def mean(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Figures averaged over all ranks, the same everywhere; what is not finite anywhere is not finite."""
        names = sorted(metrics)
        values = torch.stack([metrics[name].detach().float().reshape(()) for name in names])
        if self.count > 1:
            torch.distributed.all_reduce(values)
            values /= self.count
        return dict(zip(names, values.tolist(), strict=True))


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks of torchrun's environment, connected: by NCCL on GPUs, by gloo on CPUs. Without torchrun, one alone."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 and "RANK" not in os.environ:
        yield Ranks.alone()
        return
    ranks = Ranks(int(os.environ["RANK"]), count, int(os.environ.get("LOCAL_RANK", "0")))
    if device.startswith("cuda"):
        torch.cuda.set_device(ranks.local)
    torch.distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield ranks
    finally:
        torch.distributed.destroy_process_group()


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    """Scales gradients so that their norm over all ranks is at most `most`; returns the norm before."""
    norm = nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], most, foreach=True)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

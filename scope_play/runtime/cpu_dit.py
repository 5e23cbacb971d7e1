"""A world of one token a latent on a CPU: its few rows go through compiled functions (`kernels.cpu_block`).

More rows, such as those of many sessions at once, go the way of `FusedDiT`, where products are worth their launches.
What the functions are given is contiguous always: other layouts would be compiled for, in the middle of a game.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.kernels import Kernels
from scope_play.kernels.cpu_block import (
    Affine,
    BlockRows,
    Linear,
    PassView,
    Slots,
    block_rows,
    button_rows,
    prepare,
    silu_rows,
)
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import TextKV
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layers import RMSNorm, Rotation
from scope_play.runtime.fused_block import FusedAction, FusedBlock, StepPlan
from scope_play.runtime.fused_dit import FusedDiT, StepTime
from scope_play.runtime.kv_cache import KVMemory, StreamCache

FEW_ROWS = 16
"""Nano's passes are quicker compiled up to 24 rows, by a quarter at 16 and by half at 2 to 8 (`bench/LOG.md`)."""
NOTHING = np.zeros(0, np.float32)
ALL_SEE_ALL = np.zeros((0, 0), np.float32)


class CompiledDiT(FusedDiT):
    """Made from a network with actions and without text, in float32 on a CPU, whose blocks' weights are bfloat16's."""

    def __init__(self, network: DiT, kernels: Kernels) -> None:
        super().__init__(network, replace(kernels, reason=f"{kernels.reason}; few rows are compiled"))
        prepare()
        self._rows = [_block_rows(cast(FusedBlock, block)) for block in self.blocks]
        first, second = (
            [cast(nn.Linear, action.source.keyboard_embed[i]) for action in _actions(self)] for i in (0, 2)
        )
        self._embed_first = torch.cat([linear.weight for linear in first]), torch.cat([linear.bias for linear in first])
        self._embed_second = (
            torch.stack([linear.bias for linear in second])[:, None],
            torch.stack([linear.weight.t() for linear in second]),
        )
        sources = [action.source for action in _actions(self)]
        self._buttons = [(_linear(it.keyboard_kv_proj), _plain(it.key_attn_k_norm.weight)) for it in sources]
        modulation = network.action_modulation
        self._modulation = None if modulation is None else (_linear(modulation[0]), _linear(modulation[2]))
        self._slots: WeakKeyDictionary[StreamCache, list[tuple[Slots, Slots, Slots]]] = WeakKeyDictionary()

    def _write_buttons(self, buttons: Tensor, rotation: Rotation, cache: StreamCache) -> None:
        batch, latents = buttons.shape[:2]
        if batch * latents > FEW_ROWS:
            super()._write_buttons(buttons, rotation, cache)
            return
        # What all blocks make of a button row, side by side; then each block's own.
        embedded = F.silu(F.linear(buttons, *self._embed_first)).flatten(0, 2)
        embedded = rearrange(embedded, "rows (layers width) -> layers rows width", layers=len(self._rows))
        windows = torch.baddbmm(self._embed_second[0], embedded, self._embed_second[1])
        joined = windows.reshape(len(self._rows), batch * latents, -1).contiguous().numpy()
        view = _pass_view(rotation, cache, ALL_SEE_ALL)
        for window, (to_kv, norm), (_, _, slots) in zip(joined, self._buttons, self._slots_of(cache), strict=True):
            button_rows(window, to_kv, norm, slots, view, self.config.eps)

    def _modulate_by(self, windows: ActionWindows) -> Tensor | None:
        sticks, buttons = windows.sticks, windows.buttons
        rows = 0 if sticks is None else len(sticks) * sticks.shape[1]
        if self._modulation is None or sticks is None or buttons is None or rows > FEW_ROWS or windows.keep is not None:
            return super()._modulate_by(windows)
        flat = torch.cat([sticks.flatten(2), buttons.flatten(2)], 2).flatten(0, 1)
        return torch.from_numpy(silu_rows(flat.numpy(), *self._modulation)).view(*sticks.shape[:2], 6, -1)

    def run(
        self,
        latents: Tensor,
        previous: Tensor | None,
        time: StepTime,
        cache: StreamCache,
        plan: StepPlan,
        text: list[TextKV] | None,
    ) -> Tensor:
        """As `FusedDiT.run`."""
        batch, _, n, height, width = latents.shape
        rows, dim = batch * n, self.config.dim
        few = rows <= FEW_ROWS and self.tokens_per_frame(height, width) == 1 and cache.config.kv_dtype == "full"
        if not few or plan.sticks is None or not plan.buttons or plan.keep is not None:
            return super().run(latents, previous, time, cache, plan, text)
        x = self.network.embed_latents(latents, previous).reshape(rows, dim).contiguous()
        modulations = time.blocks if plan.modulation is None else time.blocks + plan.modulation
        modulations = modulations.expand(-1, -1, batch, n, 1, dim).reshape(-1, 6, rows, dim).contiguous()
        bias = ALL_SEE_ALL if plan.joint is None else plan.joint.pixels.numpy()
        video, along = (_pass_view(turn, cache, bias) for turn in (plan.video, plan.pixels))
        sticks = plan.sticks.reshape(-1, rows, dim).contiguous().numpy()
        hidden, parts = x.numpy(), (modulations.numpy(), sticks, self._rows, self._slots_of(cache))
        for modulation, pushed, block, slots in zip(*parts, strict=True):
            block_rows(hidden, modulation, pushed, block, *slots, video, along, self.config.heads, self.config.eps)
        return self.finish(x.view(batch, n, 1, dim), latents, previous, time, plan)

    def _slots_of(self, cache: StreamCache) -> list[tuple[Slots, Slots, Slots]]:
        """Frames, pixels and buttons of every block, as views that stay right as long as the cache lives."""
        if cache not in self._slots:
            self._slots[cache] = [
                (_slots(layer.frames), _slots(cast(KVMemory, layer.pixels)), _slots(cast(KVMemory, layer.buttons)))
                for layer in cache.layers
            ]
        return self._slots[cache]


def _actions(network: FusedDiT) -> list[FusedAction]:
    actions = [cast(FusedBlock, block).action_attn for block in network.blocks]
    return [action for action in actions if action is not None]


def _slots(memory: KVMemory) -> Slots:
    return Slots(*(kept.flatten(2).numpy() for kept in (memory.keys, memory.values)))


def _pass_view(rotation: Rotation, cache: StreamCache, bias: np.ndarray) -> PassView:
    cos, sin = (part.flatten(0, -2).contiguous().numpy() for part in rotation)
    return PassView(cos, sin, cache.config.tail - len(cos), len(cos) + cache.filled, bias)


def _block_rows(block: FusedBlock) -> BlockRows:
    attn, action = block.self_attn, block.action_attn
    if action is None:
        raise ValueError("a compiled block is made from a block with an ActionModule")
    source, mouse = action.source, action.mouse_attn
    first, second, norm = cast(nn.Linear, source.mouse_mlp[0]), source.mouse_mlp[2], source.mouse_mlp[3]
    return BlockRows(
        qkv=_linear(attn.qkv),
        qk_norms=_norms(attn.norm_q, attn.norm_k),
        out=_linear(attn.o),
        mouse_first=Linear(_halves(first.weight[:, : first.out_features]), NOTHING),
        mouse_second=_linear(second),
        mouse_norm=Affine(_plain(norm.weight), _plain(norm.bias)),
        mouse_qkv=_linear(mouse.qkv),
        mouse_qk_norms=_norms(mouse.norm_q, mouse.norm_k),
        mouse_out=_linear(mouse.o),
        keyboard_q=_linear(source.keyboard_q_proj),
        keyboard_norm=_plain(source.key_attn_q_norm.weight),
        keyboard_out=_linear(source.keyboard_o_proj),
        ffn_first=_linear(block.ffn[0]),
        ffn_second=_linear(block.ffn[2]),
    )


def _linear(linear: nn.Module) -> Linear:
    bias = cast("Tensor | None", linear.bias)
    return Linear(_halves(cast(Tensor, linear.weight)), NOTHING if bias is None else _plain(bias))


def _norms(queries: RMSNorm, keys: RMSNorm) -> tuple[np.ndarray, np.ndarray]:
    return _plain(queries.weight), _plain(keys.weight)


def _plain(weight: Tensor | nn.Module) -> np.ndarray:
    return cast(Tensor, weight).detach().contiguous().numpy()


def _halves(weight: Tensor) -> np.ndarray:
    """The bfloat16 of weights (out, in), (in, out) and as numpy can hold them."""
    return weight.detach().t().to(torch.bfloat16).contiguous().view(torch.uint16).numpy()

"""The ActionModule: how ten degrees of freedom a frame reach the picture (paper section 3; SPEC.md section 2).

Sticks act through every pixel's own history: a token is a time series over latent frames, joined with the stick
window of each frame, and attends along time only. Buttons act through one key and value per latent frame, which all
pixels query: nothing is repeated over pixels.

Names of parameters are those of the released files.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.kernels.attention import masked_attention
from scope_play.kernels.torch_primitives import rotate
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.dit.layers import Attention, RMSNorm, Rotation, frames_to_tokens, split_heads
from scope_play.model.dit.memory import AttentionMemory


class ActionWindows(NamedTuple):
    """The action rows each latent frame sees: sticks (B, F, rows, axes), buttons (B, F, rows, buttons); None if absent.

    keep: (B,) of 0 and 1, or None for all 1: where 0 the sample is computed as if it had no actions.
    """

    sticks: Tensor | None
    buttons: Tensor | None
    keep: Tensor | None = None

    def at(self, frames: slice) -> ActionWindows:
        """Those of some of the latent frames."""
        sticks, buttons = (None if x is None else x[:, frames] for x in (self.sticks, self.buttons))
        return ActionWindows(sticks, buttons, self.keep)


class ActionCondition(NamedTuple):
    """What one block makes of the actions of F latent frames, before it has seen any picture.

    sticks: (B, F, 1, C) the stick half of the mouse MLP's first layer. keys, values: (B, F, 1, heads, head_dim) of
    the buttons, keys rotated. None where absent. keep: (B, 1, 1, 1) or None, as in ActionWindows.
    """

    sticks: Tensor | None
    keys: Tensor | None
    values: Tensor | None
    keep: Tensor | None


class TimePlan(NamedTuple):
    """How frames look at frames along time: each one's rotation, and who sees whom, as in FrameLayout."""

    rotation: Rotation
    visible: Tensor | None


def window_rows(rows: Tensor, latents: int, config: ActionConfig) -> Tensor:
    """(B, N, channels) rows -> (B, latents, window rows, channels). Latent i sees rows 4i - 16 .. 4i - 1.

    Rows before the first repeat row 0, or are 0, as `config` says. Raises ScopeError when fewer than 4 (latents - 1)
    rows are there.
    """
    require_rows(rows, latents, config)
    return windows_at(rows, torch.arange(latents, device=rows.device), config)


def require_rows(rows: Tensor, latents: int, config: ActionConfig) -> None:
    """Raises ScopeError when rows (B, N, channels) do not reach as far as `latents` latents see."""
    needed = max(1, config.frames_per_latent * (latents - 1))
    if rows.shape[1] < needed:
        raise ScopeError(f"{latents} latent frames need {needed} action rows, but {rows.shape[1]} were given; add rows")


def windows_at(rows: Tensor, index: Tensor, config: ActionConfig) -> Tensor:
    """The windows of the latents `index` (F,) alone: (B, F, window rows, channels)."""
    first = index * config.frames_per_latent - config.window_rows
    wanted = first[:, None] + torch.arange(config.window_rows, device=rows.device)
    windows = rows[:, wanted.clamp(min=0)]
    return torch.where((wanted < 0)[..., None], 0, windows) if config.from_rest else windows


def project_values_first(queries: int, keys: int, heads: int, dim: int) -> bool:
    """Whether an output projection takes fewer products on the values than on the results.

    On the values every head is projected to the full width by itself, (keys x dim x dim), and the weights of all heads
    then sum that: (queries x heads keys x dim) instead of (queries x keys x dim) and (queries x dim x dim).
    """
    return keys * dim + queries * heads * keys < queries * keys + queries * dim


class PixelAttention(Attention):
    """Self-attention of each spatial position over its own latent frames."""

    def forward(self, x: Tensor, plan: TimePlan, memory: AttentionMemory | None) -> Tensor:
        """(B, F, S, C) -> (B, F, S, C)."""
        batch, frames, tokens, _ = x.shape
        q = rotate(split_heads(self.norm_q(self.q(x)), self.heads), plan.rotation)
        k = rotate(split_heads(self.norm_k(self.k(x)), self.heads), plan.rotation)
        v = split_heads(self.v(x), self.heads)
        if memory is not None:
            k, v = memory.append(k, v)
        q, k, v = (rearrange(part, "b f s heads d -> (b s) heads f d") for part in (q, k, v))
        out = masked_attention(q, k, v, plan.visible)
        return self.o(rearrange(out, "(b s) heads f d -> b f s (heads d)", b=batch, s=tokens, f=frames))


class ActionModule(nn.Module):
    """Adds the effect of sticks and buttons to the hidden states of one block."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        if config.action is None:
            raise ScopeError("an ActionModule needs an action config; this DiTConfig has none")
        action, dim = config.action, config.dim
        width = dim // action.window_rows
        self.heads = config.heads
        self.mouse_mlp = nn.Sequential(
            nn.Linear(dim + action.axes * action.window_rows, dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim, eps=1e-5),
        )
        self.mouse_attn = PixelAttention(dim, config.heads, config.eps)
        self.keyboard_embed = nn.Sequential(nn.Linear(action.buttons, width), nn.SiLU(), nn.Linear(width, width))
        self.keyboard_q_proj = nn.Linear(dim, dim, bias=False)
        self.keyboard_kv_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.keyboard_o_proj = nn.Linear(dim, dim, bias=False)
        self.key_attn_q_norm = RMSNorm(dim, config.eps)
        self.key_attn_k_norm = RMSNorm(dim, config.eps)

    def condition(self, windows: ActionWindows, rotation: Rotation) -> ActionCondition:
        """Everything that depends on actions alone: once per chunk, however many passes follow."""
        sticks = keys = values = None
        if windows.sticks is not None:
            # Linear([hidden, window]) = Linear(hidden) + Linear(window): this half once per frame, not per pixel.
            first = cast(nn.Linear, self.mouse_mlp[0])
            dim = first.out_features
            flat = rearrange(windows.sticks, "b f rows axes -> b f 1 (rows axes)")
            sticks = F.linear(flat, first.weight[:, dim:], first.bias)
        if windows.buttons is not None:
            flat = rearrange(self.keyboard_embed(windows.buttons), "b f rows width -> b f 1 (rows width)")
            k, v = self.keyboard_kv_proj(flat).chunk(2, -1)
            keys = rotate(split_heads(self.key_attn_k_norm(k), self.heads), rotation)
            values = split_heads(v, self.heads)
        keep = None if windows.keep is None else windows.keep.to(self.keyboard_q_proj.weight.dtype)[:, None, None, None]
        return ActionCondition(sticks, keys, values, keep)

    def forward(
        self,
        x: Tensor,
        condition: ActionCondition,
        plan: TimePlan,
        pixel_memory: AttentionMemory | None = None,
        button_memory: AttentionMemory | None = None,
    ) -> Tensor:
        """x (B, F, S, C) -> same shape. Without sticks or buttons the respective path is the identity."""
        if condition.sticks is not None:
            moved = self.mouse_attn(self._join_sticks(x, condition.sticks), plan, pixel_memory)
            x = x + (moved if condition.keep is None else condition.keep * moved)
        if condition.keys is not None and condition.values is not None:
            k, v = condition.keys, condition.values
            if button_memory is not None:
                k, v = button_memory.append(k, v)
            pressed = self._read_buttons(x, k, v, plan)
            x = x + (pressed if condition.keep is None else condition.keep * pressed)
        return x

    def _join_sticks(self, x: Tensor, per_frame: Tensor) -> Tensor:
        first = cast(nn.Linear, self.mouse_mlp[0])
        hidden = F.linear(x, first.weight[:, : x.shape[-1]]) + per_frame
        return self.mouse_mlp[3](self.mouse_mlp[2](self.mouse_mlp[1](hidden)))

    def _read_buttons(self, x: Tensor, k: Tensor, v: Tensor, plan: TimePlan) -> Tensor:
        tokens = x.shape[2]
        q = rotate(split_heads(self.key_attn_q_norm(self.keyboard_q_proj(x)), self.heads), plan.rotation)
        q = rearrange(q, "b f s heads d -> b heads (f s) d")
        k, v = (rearrange(part, "b f 1 heads d -> b heads f d") for part in (k, v))
        few = project_values_first(q.shape[2], k.shape[2], self.heads, x.shape[-1])
        if few and plan.visible is None and type(self.keyboard_o_proj) is nn.Linear:  # not a quantised one
            return rearrange(self._attend_projected(q, k, v), "b (f s) c -> b f s c", s=tokens)
        mask = None if plan.visible is None else frames_to_tokens(plan.visible, tokens, 1)
        out = masked_attention(q, k, v, mask)
        return self.keyboard_o_proj(rearrange(out, "b heads (f s) d -> b f s (heads d)", s=tokens))

    def _attend_projected(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention with the output projection applied to the few values instead of the many results."""
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
        projection = rearrange(self.keyboard_o_proj.weight, "c (heads d) -> heads d c", heads=self.heads)
        projected = rearrange(v @ projection, "b heads f c -> b (heads f) c")
        return rearrange(weights, "b heads l f -> b l (heads f)") @ projected

"""The diffusion transformer of SCOPE and nano: patchify, blocks, head (SPEC.md section 3).

One block code serves offline generation over all latents, training under a frame mask, and streaming a chunk against
what is kept of earlier ones (`scope_play.runtime`). They differ only in the plan of the pass and in whether memories
are given. Parameter names are those of the released files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows, TimePlan, require_rows, windows_at
from scope_play.model.dit.block import Block, Head, PassPlan, TextKV
from scope_play.model.dit.config import DiTConfig
from scope_play.model.dit.layers import (
    frames_to_tokens,
    pixel_rotation,
    timestep_sinusoid,
    video_rotation,
)
from scope_play.model.dit.layout import FrameLayout, bidirectional, block_causal
from scope_play.model.dit.memory import LayerMemory

SMALLEST_SIGMA = 0.02
"""In training, noise levels below this divide by it when a clean prediction becomes a velocity."""


class TimeEmbedding(NamedTuple):
    """What the network makes of timesteps (B, 1 or F): embedding (B, 1 or F, C), modulation (B, 1 or F, 6, C)."""

    timesteps: Tensor
    embedding: Tensor
    modulation: Tensor


class DiT(nn.Module):
    """Predicts the flow-matching velocity (noise - clean) of latent frames from noisy ones, actions and a prompt."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        channels = config.in_channels * (2 if config.from_previous else 1)
        self.patch_embedding = nn.Conv3d(channels, dim, kernel_size=config.patch, stride=config.patch)
        self.text_embedding = (
            None
            if config.text_dim is None
            else nn.Sequential(nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim))
        )
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.action_modulation = None
        if config.action is not None and config.action.modulates:
            rows = config.action.window_rows * (config.action.axes + config.action.buttons)
            self.action_modulation = nn.Sequential(nn.Linear(rows, dim), nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = Head(config)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        *,
        timestep_index: Tensor | None = None,
        layout: FrameLayout | None = None,
        context: Tensor | None = None,
        text_cache: list[TextKV] | None = None,
        buttons: Tensor | None = None,
        sticks: Tensor | None = None,
        action_keep: Tensor | None = None,
        windows: ActionWindows | None = None,
    ) -> Tensor:
        """One uncached pass over F latent frames.

        latents (B, in_channels, F, H, W); timesteps (B, K) in 0..1000, the K distinct ones, with `timestep_index`
        (F,) telling which each frame carries (not needed when K is 1 or F); buttons (B, N, 6) and sticks (B, N, 4)
        one row per video frame; context (B, L, text_dim) or the `text_cache` made from it; action_keep (B,) 0 where
        a sample's actions are dropped. `windows` gives the rows already cut into windows instead. `layout` says who
        sees whom: by default everyone, or block-causally with chunk 1 if the config is causal. Returns the velocity,
        shaped as the latents with out_channels.

        Raises ScopeError when latents do not divide into patches, rows are too few, or the text is missing.
        """
        if layout is None and windows is None:
            layout = self.clip_layout(latents.shape[2], buttons, sticks)
        layout = (layout or self.clip_layout(latents.shape[2])).to(latents.device)
        if windows is None:
            windows = self.windows(buttons, sticks, layout, action_keep)
        plan = self.plan(layout, self.grid(latents), windows)
        text = text_cache if text_cache is not None or context is None else self.text_keys(context)
        index = layout.timestep_index if timestep_index is None else timestep_index
        previous = None
        if self.config.from_previous:
            if layout.previous is None:
                raise ScopeError("this network predicts from the latent before; give the layout its `previous`")
            previous = latents[:, :, layout.previous]
        return self.predict(latents, timesteps, plan, text, index, previous)

    def predict(
        self,
        latents: Tensor,
        timesteps: Tensor,
        plan: PassPlan,
        text: list[TextKV] | None,
        timestep_index: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """A pass of `forward` whose plan is made already, and serves any number of them."""
        time = self.embed_time(timesteps.to(latents.dtype), latents.shape[2], timestep_index)
        return self.run(latents, previous, time, plan, text)

    def run(
        self,
        latents: Tensor,
        previous: Tensor | None,
        time: TimeEmbedding,
        plan: PassPlan,
        text: list[TextKV] | None,
        memories: Sequence[LayerMemory] | None = None,
    ) -> Tensor:
        """The pass itself: latents (B, in_channels, F, H, W), with `memories` seen before them -> velocity."""
        self.check_text(text)
        x = self.embed_latents(latents, previous)
        modulation = time.modulation if plan.modulation is None else time.modulation + plan.modulation
        for index, block in enumerate(self.blocks):
            x = block(
                x,
                modulation,
                plan,
                plan.condition(index, cast(Block, block)),
                None if text is None else text[index],
                None if memories is None else memories[index],
            )
        return self.velocity(self.head(x, time.embedding), latents, previous, time.timesteps)

    def check_text(self, text: list[TextKV] | None) -> None:
        """Raises ScopeError when this network has cross-attention and nothing to attend to."""
        if text is None and self.text_embedding is not None:
            raise ScopeError("this model needs a prompt's context; pass context= or text_cache=")

    def embed_latents(self, latents: Tensor, previous: Tensor | None) -> Tensor:
        """Latents (B, in_channels, F, H, W), and those before them if asked for -> tokens (B, F, S, C)."""
        return self._patchify(latents if previous is None else torch.cat([latents, previous], 1))

    def velocity(self, output: Tensor, latents: Tensor, previous: Tensor | None, timesteps: Tensor) -> Tensor:
        """What the head made, (B, F, S, patch), as the velocity (B, out_channels, F, H, W), whatever it predicts."""
        output = self._unpatchify(output, self.grid(latents))
        if self.config.prediction == "velocity":
            return output
        clean = output if previous is None else previous + output
        sigmas = timesteps / 1000
        # Sampling divides by what it multiplies with later, or noise would stay; a clean context's 0 has no velocity.
        sigmas = sigmas.clamp_min(SMALLEST_SIGMA) if self.training else torch.where(sigmas > 0, sigmas, 1.0)
        return (latents - clean) / sigmas[:, None, :, None, None]

    def embed_time(self, timesteps: Tensor, frames: int, index: Tensor | None = None) -> TimeEmbedding:
        """(B, K) timesteps, K distinct ones computed once each, spread over frames by `index` (F,)."""
        count = timesteps.shape[1]
        if index is None and count not in (1, frames):
            raise ScopeError(f"{count} timesteps for {frames} latent frames need a timestep_index")
        weights = cast(nn.Linear, self.time_embedding[0]).weight
        time = self.time_embedding(timestep_sinusoid(timesteps, self.config.freq_dim).to(weights.dtype))
        modulation = self.time_projection(time).unflatten(-1, (6, self.config.dim))
        if index is not None:
            timesteps, time, modulation = timesteps[:, index], time[:, index], modulation[:, index]
        return TimeEmbedding(timesteps, time, modulation)

    def text_keys(self, context: Tensor, bias: Tensor | None = None) -> list[TextKV]:
        """(B, L, text_dim) -> keys and values for every block, once per prompt. All L positions count (SPEC.md 3).

        `bias` (B, L) comes with a context that `kernels.text_attention` has made shorter.
        """
        return self.text_keys_of([(context, bias)])[0]

    def text_keys_of(self, prompts: Sequence[tuple[Tensor, Tensor | None]]) -> list[list[TextKV]]:
        """As `text_keys`, for several prompts in one round of the blocks."""
        if self.text_embedding is None:
            raise ScopeError("this model has no text encoder, so it takes no prompt; leave the prompt out")
        embedded = [(self.text_embedding(context), bias) for context, bias in prompts]
        attentions = (cast(Block, block).cross_attn for block in self.blocks)
        made = [[one.keys_values(*prompt) for prompt in embedded] for one in attentions if one is not None]
        return [list(keys) for keys in zip(*made, strict=True)]

    def tokens_per_frame(self, height: int, width: int) -> int:
        """Tokens of one latent frame of height x width latents."""
        return (height // self.config.patch[1]) * (width // self.config.patch[2])

    def plan_clip(self, latents: Tensor, buttons: Tensor | None, sticks: Tensor | None) -> PassPlan:
        """The plan of passes over a whole clip, shaped as `latents`, with one row per video frame; see `forward`."""
        layout = self.clip_layout(latents.shape[2], buttons, sticks).to(latents.device)
        return self.plan(layout, self.grid(latents), self.windows(buttons, sticks, layout))

    def clip_layout(self, frames: int, *rows: Tensor | None) -> FrameLayout:
        """Who sees whom where nothing else is said. Raises ScopeError for `rows` (B, N, channels) that are too few."""
        for given in rows:
            if given is not None and self.config.action is not None:
                require_rows(given, frames, self.config.action)
        return block_causal(frames) if self.config.causal else bidirectional(frames)

    def windows(
        self, buttons: Tensor | None, sticks: Tensor | None, layout: FrameLayout, keep: Tensor | None = None
    ) -> ActionWindows:
        """The windows of latents that stand as `layout` says, cut from one row per video frame (B, N, channels)."""
        action = self.config.action
        if action is None:
            return ActionWindows(None, None)

        def cut(rows: Tensor | None) -> Tensor | None:
            if rows is None:
                return None
            return windows_at(rows, layout.action_index.to(rows.device), action)

        return ActionWindows(cut(sticks), cut(buttons), keep)

    def plan(self, layout: FrameLayout, grid: tuple[int, int], windows: ActionWindows) -> PassPlan:
        """What all passes over latents that stand as `layout` says share; `grid` as from `grid()`."""
        head_dim, tokens = self.config.head_dim, grid[0] * grid[1]
        rotation = video_rotation(layout.positions, *grid, head_dim)
        along_time = pixel_rotation(layout.positions, head_dim)
        mask = None if layout.visible is None else frames_to_tokens(layout.visible, tokens, tokens)
        return PassPlan(rotation, mask, TimePlan(along_time, layout.visible), windows, [], self.modulate_by(windows))

    def modulate_by(self, windows: ActionWindows) -> Tensor | None:
        """What the rows add to the modulation of every block, (B, F, 6, C); None where they add nothing."""
        if self.action_modulation is None or windows.sticks is None or windows.buttons is None:
            return None
        rows = torch.cat([windows.sticks.flatten(2), windows.buttons.flatten(2)], 2)
        made = self.action_modulation(rows).unflatten(-1, (6, self.config.dim))
        return made if windows.keep is None else windows.keep.to(made.dtype)[:, None, None, None] * made

    def grid(self, latents: Tensor) -> tuple[int, int]:
        """Rows and columns of tokens in each latent frame. Raises ScopeError when patches do not fit."""
        _, rows, columns = self.config.patch
        height, width = latents.shape[-2:]
        if height % rows or width % columns:
            raise ScopeError(f"latents of {height}x{width} do not divide into patches of {rows}x{columns}")
        return height // rows, width // columns

    def _patchify(self, latents: Tensor) -> Tensor:
        # A convolution whose kernel is its stride is one matrix product over flattened patches.
        _, rows, columns = self.config.patch
        pattern = "b c f (h rows) (w columns) -> b f (h w) (c rows columns)"
        patches = rearrange(latents, pattern, rows=rows, columns=columns)
        return F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def _unpatchify(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        _, rows, columns = self.config.patch
        pattern = "b f (h w) (rows columns c) -> b c f (h rows) (w columns)"
        return rearrange(x, pattern, h=grid[0], w=grid[1], rows=rows, columns=columns)

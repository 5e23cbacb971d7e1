"""A DiT rewritten for streaming: the numbers of `PlainDiT` from the fused kernels, or from their twins."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.kernels import Kernels
from scope_play.kernels.attention import Attention, sdpa
from scope_play.kernels.torch_primitives import rms_norm, rotate
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.block import Block, TextKV
from scope_play.model.dit.dit import DiT
from scope_play.model.dit.layers import Rotation, pixel_rotation, video_rotation
from scope_play.runtime.fused_block import FusedBlock, StepPlan, lay_out_for_few_rows
from scope_play.runtime.joint_commit import joint_commit
from scope_play.runtime.kv_cache import StreamCache


class StepTime(NamedTuple):
    """What the network makes of timesteps (B, n or 1): the modulation of every block, its own part included.

    blocks (layers, 6, B, n or 1, 1, C); head (2, B, n or 1, 1, C).
    """

    timesteps: Tensor
    blocks: Tensor
    head: Tensor


class FusedDiT(nn.Module):
    """Streams like the DiT it is made from, which keeps working and shares its weights.

    For inference: that DiT's weights are laid out anew, and those of queries, keys and values become views that no
    optimiser knows.
    """

    joint = True
    """Whether a pass can commit the chunk before."""
    modulation: Tensor
    stick_weight: Tensor | None
    stick_bias: Tensor | None
    button_norm: Tensor | None

    def __init__(self, network: DiT, kernels: Kernels, attention: Attention | None = None) -> None:
        """`attention` computes the big attention over all visible tokens; by default PyTorch's own."""
        super().__init__()
        self.network = network
        self.kernels = kernels
        self.config = network.config
        self.attention = attention or Attention("sdpa", sdpa)
        lay_out_for_few_rows(network)
        sources = [cast(Block, block) for block in network.blocks]
        self.blocks = nn.ModuleList(FusedBlock(block, kernels, self.attention) for block in sources)
        self.register_buffer("modulation", torch.stack([block.modulation.detach()[0] for block in sources]))
        # The stick halves of all mouse MLPs' first layers, one below the other: one product for a chunk.
        modules = [block.action_attn for block in sources if block.action_attn is not None]
        firsts = [cast(nn.Linear, module.mouse_mlp[0]) for module in modules]
        halves = [(first.weight.detach()[:, self.config.dim :], first.bias.detach()) for first in firsts]
        self.register_buffer("stick_weight", torch.cat([weight for weight, _ in halves]) if halves else None)
        self.register_buffer("stick_bias", torch.cat([bias for _, bias in halves]) if halves else None)
        norms = [module.key_attn_k_norm.weight.detach()[None, None, None] for module in modules]
        self.register_buffer("button_norm", torch.stack(norms) if norms else None)

    def tokens_per_frame(self, height: int, width: int) -> int:
        return self.network.tokens_per_frame(height, width)

    def text_keys(self, context: Tensor, bias: Tensor | None = None) -> list[TextKV]:
        return self.network.text_keys(context, bias)

    def embed_time(self, timesteps: Tensor, frames: int) -> StepTime:
        """(B, n or 1) timesteps in 0..1000 of n = `frames` latents. Made once, it serves every pass at that time."""
        time = self.network.embed_time(timesteps, frames)
        blocks = rearrange(self.modulation, "layers part c -> layers part 1 1 1 c") + rearrange(
            time.modulation, "b n part c -> part b n 1 c"
        )
        head = rearrange(self.network.head.modulation, "1 part c -> part 1 1 1 c") + time.embedding[:, :, None]
        return StepTime(timesteps, blocks, head)

    def plan_chunk(self, latents: Tensor, cache: StreamCache, windows: ActionWindows, clean: int = 0) -> StepPlan:
        """What all passes over the next chunk share; `latents` (B, in_channels, n, H, W) gives its shape alone.

        clean: so many last latents of `latents` and `windows` are the clean chunk before, which the pass commits. The
        buttons' keys and values go into the cache's tail here: plan a chunk only when the one before is committed.
        """
        layout = cache.layout(latents.shape[2], clean)
        grid, head_dim = self.network.grid(latents), self.config.head_dim
        along_time = pixel_rotation(layout.positions, head_dim)
        sticks = keep = None
        if windows.sticks is not None and self.stick_weight is not None:
            flat = windows.sticks.flatten(2)[:, :, None]
            made = F.linear(flat, self.stick_weight, self.stick_bias)
            sticks = rearrange(made, "b n 1 (layers c) -> layers b n 1 c", c=self.config.dim)
        if windows.buttons is not None:
            self._write_buttons(windows.buttons, along_time, cache)
        if windows.keep is not None:
            keep = windows.keep.to(latents.dtype)[:, None, None, None].repeat(1, 1, 1, self.config.dim)
        joint = None
        if layout.visible is not None:
            joint = joint_commit(layout.visible, clean, grid[0] * grid[1], latents.dtype)
        rotation = video_rotation(layout.positions, *grid, head_dim)
        modulation = self._modulate_by(windows)
        if modulation is not None:
            modulation = rearrange(modulation, "b n part c -> part b n 1 c")
        return StepPlan(rotation, along_time, sticks, windows.buttons is not None, keep, joint, modulation)

    def _modulate_by(self, windows: ActionWindows) -> Tensor | None:
        return self.network.modulate_by(windows)

    def _write_buttons(self, buttons: Tensor, rotation: Rotation, cache: StreamCache) -> None:
        """Keys and values of buttons (B, n, rows, buttons) into the chunk's slots, where every pass finds them."""
        actions = [cast(FusedBlock, block).action_attn for block in self.blocks]
        if self.button_norm is None:
            return
        made = torch.stack([action.read_buttons(buttons) for action in actions if action is not None])
        raw, v = made.chunk(2, -1)
        heads = (self.config.heads, self.config.head_dim)
        k = rotate(rms_norm(raw, self.button_norm, self.config.eps).unflatten(-1, heads), rotation)
        for layer, keys, values in zip(cache.layers, k, v.unflatten(-1, heads), strict=True):
            if layer.buttons is not None:
                layer.buttons.append(keys, values)

    def step(
        self,
        latents: Tensor,
        time: StepTime,
        cache: StreamCache,
        plan: StepPlan,
        *,
        text_cache: list[TextKV] | None = None,
    ) -> Tensor:
        """One pass over the chunk in flight, (B, in_channels, n, H, W), against the cache -> its velocity.

        The chunk's keys and values are left in the cache's tail: `cache.commit()` after a pass over the clean chunk
        keeps them. If `plan` was made with `clean`, so many last latents are the clean chunk before, at timestep 0; the
        result is the velocity of the others, and `cache.commit()` keeps the clean ones.
        """
        cache.hold(latents, plan.clean)
        previous = cache.previous(latents, plan.clean) if self.config.from_previous else None
        return self.run(latents, previous, time, cache, plan, text_cache)

    def run(
        self,
        latents: Tensor,
        previous: Tensor | None,
        time: StepTime,
        cache: StreamCache,
        plan: StepPlan,
        text: list[TextKV] | None,
    ) -> Tensor:
        """The pass itself: nothing in it depends on values, and only the cache's tail changes."""
        self.network.check_text(text)
        x = self.network.embed_latents(latents, previous)
        modulations = time.blocks if plan.modulation is None else time.blocks + plan.modulation
        for index, block in enumerate(self.blocks):
            x = block(
                x,
                modulations[index],
                plan,
                None if plan.sticks is None else plan.sticks[index],
                None if text is None else text[index],
                cache.layers[index],
            )
        return self.finish(x, latents, previous, time, plan)

    def finish(self, x: Tensor, latents: Tensor, previous: Tensor | None, time: StepTime, plan: StepPlan) -> Tensor:
        """What the blocks made, (B, n, S, C), as the velocity of the latents that the pass does not commit."""
        head, timesteps = self.network.head, time.timesteps
        shift, scale = time.head
        if plan.clean:
            kept = slice(0, -plan.clean)
            x, shift, scale, timesteps = x[:, kept], shift[:, kept], scale[:, kept], timesteps[:, kept]
            latents, previous = latents[:, :, kept], None if previous is None else previous[:, :, kept]
        output = head.head(self.kernels.modulate(x, shift, scale, eps=head.eps))
        return self.network.velocity(output, latents, previous, timesteps)

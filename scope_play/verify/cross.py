"""Our networks against independent ones with the same random weights: transformers' UMT5, diffusers' Wan2.2.

The golden vectors come from one reference; these come from elsewhere, and at the real widths. Errors are relative to
the largest value, in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.umt5.encoder import UMT5_XXL, TextEncoder, TextEncoderConfig
from scope_play.model.wan_vae.config import WAN22_VAE, VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.verify.golden import Check
from scope_play.weights.foreign.keys import DIFFUSERS_DIT, TRANSFORMERS_TEXT, Rules, diffusers_vae, rename

LIMITS = {"text": 2e-5, "vae": 1e-4, "dit": 2e-5}
TOKENS = 40
"""Of a prompt, of 64 with its padding."""


@dataclass(frozen=True)
class Widths:
    """What is compared: few layers of networks as wide as they are, and the autoencoder whole."""

    text: TextEncoderConfig
    vae: VAEConfig
    dit: DiTConfig
    latents: tuple[int, int]


WIDTHS = {
    "real": Widths(
        replace(UMT5_XXL, vocab=1000, layers=2), WAN22_VAE, replace(SCOPE_5B, layers=2, action=None), (6, 8)
    ),
    "small": Widths(
        TextEncoderConfig(vocab=300, dim=64, dim_attn=64, dim_ffn=96, heads=4, layers=2),
        VAEConfig(dim=8, dec_dim=8),
        DiTConfig(dim=256, layers=2, heads=2, ffn_dim=512, text_dim=64, action=None),
        (4, 6),
    ),
}


@torch.no_grad()
def cross_checks(widths: Widths) -> Iterator[Check]:
    """Raises ScopeError when transformers or diffusers is not installed."""
    parts: dict[str, Callable[[Widths], Iterator[tuple[str, Tensor, Tensor]]]] = {
        "text": check_text,
        "vae": check_vae,
        "dit": check_dit,
    }
    for name, check in parts.items():
        try:
            for quantity, ours, theirs in check(widths):
                error = float((ours - theirs).abs().max() / theirs.abs().max())
                yield Check(f"cross {name}", quantity, error, LIMITS[name])
        except ImportError as error:
            raise ScopeError(
                f"verify --cross needs the package {error.name}; run: pip install 'scope-play[cross]'"
            ) from error


def check_text(widths: Widths) -> Iterator[tuple[str, Tensor, Tensor]]:
    from transformers import UMT5Config, UMT5EncoderModel

    text = widths.text
    config = UMT5Config(
        vocab_size=text.vocab,
        d_model=text.dim,
        d_kv=text.dim_attn // text.heads,
        d_ff=text.dim_ffn,
        num_layers=text.layers,
        num_heads=text.heads,
        relative_attention_num_buckets=text.buckets,
        feed_forward_proj="gated-gelu",
    )
    ours = random_weights(TextEncoder(text), seed=1)
    theirs = give(UMT5EncoderModel(config), ours.state_dict(), TRANSFORMERS_TEXT)
    ids = torch.randint(3, text.vocab, (1, 64), generator=torch.Generator().manual_seed(2))
    mask = (torch.arange(64) < TOKENS).long()[None]
    expected = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
    yield "encoded", ours(ids, mask)[:, :TOKENS], expected[:, :TOKENS]


def check_vae(widths: Widths) -> Iterator[tuple[str, Tensor, Tensor]]:
    from diffusers import AutoencoderKLWan

    vae = widths.vae
    model = AutoencoderKLWan(
        base_dim=vae.dim,
        decoder_base_dim=vae.dec_dim,
        z_dim=vae.z_dim,
        dim_mult=list(vae.dim_mult),
        num_res_blocks=vae.num_res_blocks,
        attn_scales=[],
        temperal_downsample=list(vae.temporal_downsample),
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=list(vae.latent_mean),
        latents_std=list(vae.latent_std),
    )
    ours = WanVAE(random_weights(VAENetwork(vae), seed=3))
    theirs = give(model, ours.network.state_dict(), diffusers_vae(vae.num_res_blocks))
    draw = torch.Generator().manual_seed(4)
    height, width = (16 * side for side in widths.latents)
    video = torch.rand(1, 3, 9, height, width, generator=draw) * 2 - 1
    latents = torch.randn(1, vae.z_dim, 3, *widths.latents, generator=draw)
    mean, std = (torch.tensor(x).reshape(1, -1, 1, 1, 1) for x in (vae.latent_mean, vae.latent_std))
    yield "latents", ours.encode(video), (theirs.encode(video).latent_dist.mode() - mean) / std
    yield "video", ours.decode(latents), theirs.decode(latents * std + mean).sample


def check_dit(widths: Widths) -> Iterator[tuple[str, Tensor, Tensor]]:
    """With a timestep for every token, the first frame's being 0, as an image is given."""
    from diffusers import WanTransformer3DModel

    dit = widths.dit
    model = WanTransformer3DModel(
        patch_size=dit.patch,
        num_attention_heads=dit.heads,
        attention_head_dim=dit.head_dim,
        in_channels=dit.in_channels,
        out_channels=dit.out_channels,
        text_dim=dit.text_dim,
        freq_dim=dit.freq_dim,
        ffn_dim=dit.ffn_dim,
        num_layers=dit.layers,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        eps=dit.eps,
    )
    ours = random_weights(DiT(dit), seed=5)
    theirs = give(model, ours.state_dict(), DIFFUSERS_DIT)
    draw = torch.Generator().manual_seed(6)
    frames, timestep = 3, 937.5
    latents = torch.randn(1, dit.in_channels, frames, *widths.latents, generator=draw)
    context = torch.randn(1, 64, dit.text_dim or 1, generator=draw)
    tokens = ours.tokens_per_frame(*widths.latents)
    times = torch.tensor([0.0, *[timestep] * (frames - 1)])
    expected = theirs(latents, times.repeat_interleave(tokens)[None], context, return_dict=False)[0]
    index = torch.tensor([0, *[1] * (frames - 1)])
    made = ours(latents, torch.tensor([[0.0, timestep]]), timestep_index=index, context=context)
    yield "velocity", made, expected


def random_weights(module: nn.Module, seed: int) -> Any:
    """`module` with weights that shrink with their inputs, gains near 1 and biases near 0."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.dim() > 1 and not name.endswith("gamma"):
            tensor.normal_(std=tensor[0].numel() ** -0.5, generator=draw)
        else:
            tensor.normal_(1.0 if name.endswith(("weight", "gamma")) else 0.0, 0.05, generator=draw)
    return module.eval().requires_grad_(False)


def give(theirs: Any, state: Mapping[str, Tensor], rules: Rules) -> Any:
    """Another library's module with our numbers. Raises ScopeError when its tensors are not those that we know."""
    names = {name: rename(name, rules) for name in theirs.state_dict()}
    unknown = [name for name, ours in names.items() if ours not in state]
    if unknown or set(names.values()) != set(state):
        raise ScopeError(
            f"{type(theirs).__name__} of the installed version has other tensors than are known here "
            f"({', '.join(unknown[:3])}); install another version"
        )
    theirs.load_state_dict({name: state[ours] for name, ours in names.items() if ours is not None})
    return theirs.eval()

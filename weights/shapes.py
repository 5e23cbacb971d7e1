"""Model configs read off the shapes of the tensors in a checkpoint.

What shapes cannot tell: the number of attention heads of the DiT (head dimension 128, as released, is assumed), its
epsilon, and whether it is causal. A `config.json` of this project says those.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from scope_play.errors import ScopeError
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.umt5.encoder import TextEncoderConfig
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.weights.sources import Source, StoredTensor

HEAD_DIM = 128

C = TypeVar("C")


class _Shapes:
    """Looks up dimensions of tensors, and names the tensor when it is not there."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.tensors: Mapping[str, StoredTensor] = source.tensors

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def size(self, name: str, axis: int) -> int:
        """Size of one axis; `*` in the name stands for any block number, and the commonest size is taken."""
        pattern = re.compile(re.escape(name).replace(r"\*", r"\d+"))
        shapes = [stored.shape for key, stored in self.tensors.items() if pattern.fullmatch(key)]
        sizes = Counter(shape[axis] for shape in shapes if len(shape) > axis and shape[axis] > 0)
        if not sizes:
            raise ScopeError(
                f"{self.source.path}: tensor {name!r} is missing or misshapen, so the model's size cannot be told; "
                f"download the file again."
            )
        return sizes.most_common(1)[0][0]

    def count(self, pattern: str) -> int:
        """How many different numbers stand in the group of `pattern` among the tensors' names."""
        matches = (re.match(pattern, name) for name in self.tensors)
        return len({match.group(1) for match in matches if match})


def _config(kind: Callable[..., C], source: Source, **values: Any) -> C:
    try:
        return kind(**values)
    except ScopeError as error:
        raise ScopeError(f"{source.path}: the shapes of its tensors do not go together: {error}") from error


def dit_config(source: Source) -> DiTConfig:
    """The config of a bidirectional, SCOPE-like DiT."""
    shapes = _Shapes(source)
    dim = shapes.size("patch_embedding.weight", 0)
    patch = tuple(shapes.size("patch_embedding.weight", axis) for axis in (2, 3, 4))
    action = None
    if shapes.count(r"blocks\.\d+\.action_attn\.(keyboard_embed|mouse_mlp)\."):
        rows = ActionConfig().window_rows
        action = ActionConfig(
            axes=(shapes.size("blocks.*.action_attn.mouse_mlp.0.weight", 1) - dim) // rows,
            buttons=shapes.size("blocks.*.action_attn.keyboard_embed.0.weight", 1),
        )
    return _config(
        DiTConfig,
        source,
        dim=dim,
        layers=shapes.count(r"blocks\.(\d+)\."),
        heads=max(1, dim // HEAD_DIM),
        ffn_dim=shapes.size("blocks.*.ffn.0.weight", 0),
        in_channels=shapes.size("patch_embedding.weight", 1),
        out_channels=shapes.size("head.head.weight", 0) // (patch[0] * patch[1] * patch[2]),
        patch=(patch[0], patch[1], patch[2]),
        text_dim=shapes.size("text_embedding.0.weight", 1) if "text_embedding.0.weight" in shapes else None,
        freq_dim=shapes.size("time_embedding.0.weight", 1),
        action=action,
    )


def vae_config(source: Source) -> VAEConfig:
    """The config of a Wan2.2 autoencoder with the released normalisation constants."""
    shapes = _Shapes(source)
    dim = shapes.size("encoder.conv1.weight", 0)
    stages = shapes.count(r"encoder\.downsamples\.(\d+)\.")
    widths = [shapes.size(f"encoder.downsamples.{stage}.downsamples.0.residual.6.weight", 0) for stage in range(stages)]
    return _config(
        VAEConfig,
        source,
        dim=dim,
        dec_dim=shapes.size("decoder.head.0.gamma", 0),
        z_dim=shapes.size("conv2.weight", 0),
        dim_mult=tuple(width // dim for width in widths),
        num_res_blocks=shapes.count(r"encoder\.downsamples\.0\.downsamples\.(\d+)\.residual\."),
        temporal_downsample=tuple(
            shapes.count(rf"encoder\.downsamples\.{stage}\.downsamples\.(\d+)\.time_conv\.") > 0
            for stage in range(stages - 1)
        ),
    )


def text_config(source: Source) -> TextEncoderConfig:
    """The config of a UMT5 encoder."""
    shapes = _Shapes(source)
    return _config(
        TextEncoderConfig,
        source,
        vocab=shapes.size("token_embedding.weight", 0),
        dim=shapes.size("token_embedding.weight", 1),
        dim_attn=shapes.size("blocks.*.attn.q.weight", 0),
        dim_ffn=shapes.size("blocks.*.ffn.fc1.weight", 0),
        heads=shapes.size("blocks.*.pos_embedding.embedding.weight", 1),
        layers=shapes.count(r"blocks\.(\d+)\."),
        buckets=shapes.size("blocks.*.pos_embedding.embedding.weight", 0),
    )

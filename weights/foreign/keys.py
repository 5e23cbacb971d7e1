"""What other libraries call the same tensors: rules that turn their names into ours.

A rule is a regular expression and its replacement; the first that matches a whole name decides, and a name that none
matches has no place here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Rules = Sequence[tuple[str, str]]

_RESNET = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
_IN = r"(encoder|decoder)"


def _resnets(theirs: str, ours: str) -> list[tuple[str, str]]:
    named = [(rf"{theirs}\.{part}\.(.+)", rf"{ours}.{place}.\g<rest>") for part, place in _RESNET.items()]
    named.append((rf"{theirs}\.conv_shortcut\.(.+)", rf"{ours}.shortcut.\g<rest>"))
    return [(rule.replace("(.+)", "(?P<rest>.+)"), name) for rule, name in named]


def diffusers_vae(resnets: int) -> Rules:
    """Of `AutoencoderKLWan` with residual stages (Wan2.2's). `resnets`: in each stage of the encoder."""
    return [
        (rf"{_IN}\.conv_in\.(.+)", r"\1.conv1.\2"),
        (rf"{_IN}\.norm_out\.(.+)", r"\1.head.0.\2"),
        (rf"{_IN}\.conv_out\.(.+)", r"\1.head.2.\2"),
        (r"quant_conv\.(.+)", r"conv1.\1"),
        (r"post_quant_conv\.(.+)", r"conv2.\1"),
        (rf"{_IN}\.mid_block\.attentions\.0\.(.+)", r"\1.middle.1.\2"),
        *_resnets(rf"{_IN}\.mid_block\.resnets\.0", r"\1.middle.0"),
        *_resnets(rf"{_IN}\.mid_block\.resnets\.1", r"\1.middle.2"),
        *_resnets(r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)", r"encoder.downsamples.\1.downsamples.\2"),
        *_resnets(r"decoder\.up_blocks\.(\d+)\.resnets\.(\d+)", r"decoder.upsamples.\1.upsamples.\2"),
        (r"encoder\.down_blocks\.(\d+)\.downsampler\.(.+)", rf"encoder.downsamples.\1.downsamples.{resnets}.\2"),
        (r"decoder\.up_blocks\.(\d+)\.upsampler\.(.+)", rf"decoder.upsamples.\1.upsamples.{resnets + 1}.\2"),
    ]


TRANSFORMERS_TEXT: Rules = [
    (r"(?:shared|encoder\.embed_tokens)\.weight", r"token_embedding.weight"),
    (r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkvo])\.weight", r"blocks.\1.attn.\2.weight"),
    (
        r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias\.weight",
        r"blocks.\1.pos_embedding.embedding.weight",
    ),
    (r"encoder\.block\.(\d+)\.layer\.0\.layer_norm\.weight", r"blocks.\1.norm1.weight"),
    (r"encoder\.block\.(\d+)\.layer\.1\.layer_norm\.weight", r"blocks.\1.norm2.weight"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0\.weight", r"blocks.\1.ffn.gate.0.weight"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1\.weight", r"blocks.\1.ffn.fc1.weight"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo\.weight", r"blocks.\1.ffn.fc2.weight"),
    (r"encoder\.final_layer_norm\.weight", r"norm.weight"),
]
"""Of `UMT5EncoderModel`."""

DIFFUSERS_DIT: Rules = [
    (r"patch_embedding\.(.+)", r"patch_embedding.\1"),
    (r"condition_embedder\.text_embedder\.linear_1\.(.+)", r"text_embedding.0.\1"),
    (r"condition_embedder\.text_embedder\.linear_2\.(.+)", r"text_embedding.2.\1"),
    (r"condition_embedder\.time_embedder\.linear_1\.(.+)", r"time_embedding.0.\1"),
    (r"condition_embedder\.time_embedder\.linear_2\.(.+)", r"time_embedding.2.\1"),
    (r"condition_embedder\.time_proj\.(.+)", r"time_projection.1.\1"),
    (r"blocks\.(\d+)\.scale_shift_table", r"blocks.\1.modulation"),
    (r"blocks\.(\d+)\.attn1\.to_([qkv])\.(.+)", r"blocks.\1.self_attn.\2.\3"),
    (r"blocks\.(\d+)\.attn1\.to_out\.0\.(.+)", r"blocks.\1.self_attn.o.\2"),
    (r"blocks\.(\d+)\.attn1\.(norm_[qk])\.(.+)", r"blocks.\1.self_attn.\2.\3"),
    (r"blocks\.(\d+)\.attn2\.to_([qkv])\.(.+)", r"blocks.\1.cross_attn.\2.\3"),
    (r"blocks\.(\d+)\.attn2\.to_out\.0\.(.+)", r"blocks.\1.cross_attn.o.\2"),
    (r"blocks\.(\d+)\.attn2\.(norm_[qk])\.(.+)", r"blocks.\1.cross_attn.\2.\3"),
    (r"blocks\.(\d+)\.norm2\.(.+)", r"blocks.\1.norm3.\2"),
    (r"blocks\.(\d+)\.ffn\.net\.0\.proj\.(.+)", r"blocks.\1.ffn.0.\2"),
    (r"blocks\.(\d+)\.ffn\.net\.2\.(.+)", r"blocks.\1.ffn.2.\2"),
    (r"scale_shift_table", r"head.modulation"),
    (r"proj_out\.(.+)", r"head.head.\1"),
]
"""Of `WanTransformer3DModel`."""


def rename(name: str, rules: Rules) -> str | None:
    """What a tensor of theirs is called here; None when no rule knows it."""
    for pattern, ours in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(ours)
    return None


def rename_all(names: Iterable[str], rules: Rules) -> dict[str, str]:
    """Our name -> theirs, for all that the rules know; of two for one of ours, such as tied tables, the first."""
    found: dict[str, str] = {}
    for theirs in names:
        ours = rename(theirs, rules)
        if ours is not None:
            found.setdefault(ours, theirs)
    return found

"""Which part of which model a weight file holds: told by the names of its tensors, never by the file's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from scope_play.weights.foreign.keys import TRANSFORMERS_TEXT, Rules, diffusers_vae, rename_all
from scope_play.weights.foreign.views import RenamedSource, ScaledSource, is_scaled
from scope_play.weights.sources import Source

PARTS = ("dit", "vae", "text_encoder")
EMBEDDED = "spiece_model"
"""The tensor in which ComfyUI's text encoders carry their tokenizer."""


@dataclass(frozen=True)
class Part:
    """A file's tensors under this project's names: `kind` is one of PARTS."""

    kind: str
    source: Source
    tokenizer: Source | None = None
    """A source whose tensor EMBEDDED is a sentencepiece model, if the file has one."""


@dataclass(frozen=True)
class _Form:
    """A form in which weights are found: a tensor that only it has, and what it is a form of."""

    mark: str
    kind: str
    rules: Rules | None = None


_FORMS = (
    _Form("blocks.0.self_attn.q.weight", "dit"),
    _Form("encoder.downsamples.0.downsamples.0.residual.2.weight", "vae"),
    _Form("encoder.down_blocks.0.resnets.0.conv1.weight", "vae", diffusers_vae(2)),
    _Form("blocks.0.attn.q.weight", "text_encoder"),
    _Form("encoder.block.0.layer.0.SelfAttention.q.weight", "text_encoder", TRANSFORMERS_TEXT),
)
_OTHERS = {
    "encoder.downsamples.0.residual.2.weight": "the autoencoder of Wan2.1, and SCOPE's is Wan2.2's",
    "blocks.0.attn1.to_q.weight": "a Wan transformer in diffusers' form, which has no action modules",
    "encoder.down_blocks.0.resnets.0.norm1.weight": "the autoencoder of an image model",
    "encoder.layers.0.self_attn.q_proj.weight": "the text encoder of another model",
}
_WRAPPERS = ("", "model.", "module.", "model.diffusion_model.", "diffusion_model.", "pipe.dit.", "vae.")


def recognise(source: Source) -> Part | str:
    """The part that `source` holds, in whatever form; or what it holds instead, as half a sentence.

    Raises ScopeError for a damaged file.
    """
    scaled = ScaledSource(source) if is_scaled(source) else source
    names = scaled.tensors
    for form in _FORMS:
        for wrapper in _WRAPPERS:
            if wrapper + form.mark in names:
                part = RenamedSource(scaled, _unwrap(names, wrapper, form.rules))
                if form.kind == "dit" and not any(".action_attn." in name for name in part.names):
                    return "a Wan transformer without SCOPE's action modules"
                return Part(form.kind, part, source if EMBEDDED in source.tensors else None)
    if any(".lora_" in name for name in names):
        return "a LoRA, which --lora takes"
    found = (what for mark, what in _OTHERS.items() for wrapper in _WRAPPERS if wrapper + mark in names)
    return next(found, "none of SCOPE's parts")


def _unwrap(names: Iterable[str], wrapper: str, rules: Rules | None) -> Mapping[str, str]:
    """Our names -> those in the file."""
    inside = {name.removeprefix(wrapper): name for name in names if name.startswith(wrapper)}
    if rules is None:
        return inside
    return {ours: inside[theirs] for ours, theirs in rename_all(inside, rules).items()}

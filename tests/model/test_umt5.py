"""The UMT5 encoder against the reference's vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.model.umt5.encoder import (
    UMT5_XXL,
    T5Norm,
    TextEncoder,
    TextEncoderConfig,
    relative_buckets,
    zero_padding,
)
from scope_play.weights.checkpoint import build_on_meta
from tests.helpers.golden import golden_cases, golden_json, golden_tensors

FP32_LIMIT = 5e-5
BF16_LIMIT, BF16_MEAN_LIMIT = 0.16, 0.032


def golden_encoder(case: dict[str, Any]) -> TextEncoder:
    encoder = TextEncoder(TextEncoderConfig.from_reference(case["config"]))
    encoder.load_state_dict(golden_tensors(case["weights"]))
    return encoder.requires_grad_(False).to(getattr(torch, case["dtype"]))


def largest_error(case: dict[str, Any], got: Tensor, expected: Tensor) -> float:
    assert got.dtype == expected.dtype
    difference = (got.float() - expected.float()).abs()
    if case["dtype"] == "bfloat16":
        assert difference.mean() < BF16_MEAN_LIMIT
    return difference.max().item()


@pytest.mark.parametrize("case", golden_cases("text_encoder"), ids=lambda case: case["id"])
def test_golden(case: dict[str, Any]) -> None:
    tensors, encoder = golden_tensors(case["file"]), golden_encoder(case)
    limit = FP32_LIMIT if case["dtype"] == "float32" else BF16_LIMIT
    raw = encoder(tensors["in.ids"], tensors["in.mask"])
    assert largest_error(case, raw, tensors["out.encoder_raw"]) < limit
    # The reference cuts every row of a batch at the shortest length; here each row keeps its own.
    lengths = tensors["in.mask"].sum(dim=1)
    as_reference = zero_padding(raw, lengths.min().expand(len(lengths)))
    assert largest_error(case, as_reference, tensors["out.context"]) < limit
    context = encoder.encode(tensors["in.ids"], tensors["in.mask"])
    assert context.shape == tensors["out.context"].shape
    for row, length in enumerate(lengths.tolist()):
        assert largest_error(case, context[row, :length], tensors["out.encoder_raw"][row, :length]) < limit
        assert not context[row, length:].any()


@pytest.mark.parametrize("name", ["l16_v7", "l16_v7_bf16"])
def test_intermediates(name: str) -> None:
    case = next(case for case in golden_cases("text_encoder") if case["id"] == f"text_encoder/{name}")
    tensors, encoder = golden_tensors(case["file"]), golden_encoder(case)
    seen: dict[str, Tensor] = {}
    paths = {"token_embedding": "token_embedding", "block0.attn": "blocks.0.attn", "block0.ffn": "blocks.0.ffn"}
    paths |= {f"block{index}": f"blocks.{index}" for index in range(3)}
    for key, path in paths.items():
        encoder.get_submodule(path).register_forward_hook(lambda _m, _i, out, key=key: seen.__setitem__(key, out))
    encoder(tensors["in.ids"], tensors["in.mask"])
    limit = FP32_LIMIT if case["dtype"] == "float32" else BF16_LIMIT
    for key, got in seen.items():
        assert largest_error(case, got, tensors[f"mid.{key}"]) < limit, key


@pytest.mark.parametrize("wrong", ["eps", "gelu"])
def test_a_wrong_detail_is_noticed(wrong: str) -> None:
    case = next(case for case in golden_cases("text_encoder") if case["id"] == "text_encoder/l16_v7")
    tensors, encoder = golden_tensors(case["file"]), golden_encoder(case)
    for module in encoder.modules():
        if wrong == "eps" and isinstance(module, T5Norm):
            module.eps = 1e-5
        if wrong == "gelu" and isinstance(module, nn.GELU):
            module.approximate = "none"
    error = largest_error(case, encoder(tensors["in.ids"], tensors["in.mask"]), tensors["out.encoder_raw"])
    assert error > FP32_LIMIT


def test_buckets() -> None:
    table = golden_tensors("text_encoder/buckets.safetensors")
    assert torch.equal(relative_buckets(table["rel_pos"], 32), table["bucket32"])


def test_names_and_shapes_of_the_released_size() -> None:
    encoder = build_on_meta(lambda: TextEncoder(UMT5_XXL))
    manifest = {entry["name"]: tuple(entry["shape"]) for entry in golden_json("manifests/umt5_xxl_encoder.json")}
    assert {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()} == manifest
    assert len(manifest) == 242


def test_padding_does_not_reach_the_text() -> None:
    case = next(case for case in golden_cases("text_encoder") if case["id"] == "text_encoder/l16_v7")
    tensors, encoder = golden_tensors(case["file"]), golden_encoder(case)
    ids = tensors["in.ids"].clone()
    ids[:, 7:] = 5
    assert torch.equal(encoder.encode(ids, tensors["in.mask"]), encoder.encode(tensors["in.ids"], tensors["in.mask"]))


def test_configs() -> None:
    assert TextEncoderConfig.from_json(UMT5_XXL.to_json()) == UMT5_XXL
    with pytest.raises(ScopeError, match="5 heads"):
        TextEncoderConfig(heads=5)
    with pytest.raises(ScopeError, match="unknown key 'width'"):
        TextEncoderConfig.from_json({"width": 3})

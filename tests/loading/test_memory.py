"""What models take, against modules that are really built; and the refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scope_play.bench.measure import peak_live_bytes
from scope_play.errors import ScopeError
from scope_play.loading.free_memory import GIB, FreeMemory, host_free
from scope_play.loading.memory import (
    MARGIN,
    ClipNeed,
    StreamNeed,
    clip_activations,
    clip_need,
    decode_bytes,
    encode_bytes,
    module_bytes,
    network_bytes,
    pass_bytes,
    preview_bytes,
    slot_bytes,
    slot_bytes_fp8,
    stream_need,
    text_key_bytes,
    tokens_per_latent,
)
from scope_play.loading.placement import place, require_placement, require_stream
from scope_play.loading.scope import OFFICIAL_STREAM, MemoryEstimate, MemoryOptions
from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.taehv import TaehvDecoder, TaehvStream
from scope_play.model.umt5.encoder import UMT5_XXL
from scope_play.model.wan_vae.config import WAN22_VAE, VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.quantize import quantise_blocks
from scope_play.sampling.clip import ClipShape
from scope_play.sampling.stream import cache_config

SMALL = DiTConfig(dim=48, layers=3, heads=2, ffn_dim=64, in_channels=4, out_channels=4, text_dim=8, freq_dim=16)


@pytest.fixture(scope="module")
def scope() -> ClipNeed:
    return clip_need(SCOPE_5B, WAN22_VAE, UMT5_XXL, ClipShape(), torch.bfloat16)


def test_the_released_weights_are_as_large_as_their_manifests_say(scope: ClipNeed) -> None:
    assert scope.transformer == 2 * 7_839_099_072
    assert scope.text == int(1.1 * 2 * 5_680_910_336)
    assert scope.vae == 2 * 704_688_668
    assert scope.blocks == 30 * scope.block < scope.transformer
    assert tokens_per_latent(SCOPE_5B, WAN22_VAE, ClipShape()) == 390
    assert 16 * GIB < scope.on_device("none") < 26 * GIB
    assert scope.on_device("blocks") < 12 * GIB


def test_counts_equal_what_is_allocated() -> None:
    network = DiT(SMALL)
    assert module_bytes(lambda: DiT(SMALL), torch.float32) == sum(p.nbytes for p in network.parameters())
    of_2 = CacheConfig(window=5, chunk=2)
    for layout in (of_2, replace(of_2, kv_dtype="fp8"), replace(of_2, joint=True)):
        cache = StreamCache(SMALL, layout, batch=1, tokens=6, dtype=torch.float32)
        held = sum(tensor.nbytes for memory in cache.memories() for tensor in memory.tensors())
        slot = slot_bytes(SMALL, 6, torch.float32)
        ring = slot_bytes_fp8(SMALL, 6, torch.float32) if layout.kv_dtype == "fp8" else slot
        assert layout.tail * slot + layout.window * ring == held
    text = network.text_keys(torch.randn(1, 7, 8))
    assert text_key_bytes(SMALL, 7, torch.float32) == sum(kv.keys.nbytes + kv.values.nbytes for kv in text)


NEED = ClipNeed(text=12, transformer=15, blocks=14, block=1, vae=2, text_keys=0, activations=3)


def free(device: int, host: int) -> FreeMemory:
    return FreeMemory(device, host, is_cpu=False)


@pytest.mark.parametrize(
    ("device", "host", "offload", "expected"),
    [
        (80, 100, "auto", "none"),
        (16, 100, "auto", "blocks"),
        (80, 100, "blocks", "blocks"),
        (11, 100, "auto", "blocks"),
        (16, 100, "none", None),
        (16, 10, "auto", None),
        (5, 100, "auto", None),
        (8, 11, "auto", None),
        (11, 14, "auto", "blocks"),
    ],
)
def test_placement(device: int, host: int, offload: str, expected: str | None) -> None:
    assert place(NEED, free(device, host), offload) == expected


def test_on_the_cpu_host_and_device_are_one() -> None:
    assert place(NEED, FreeMemory(23, 23, is_cpu=True), "auto") == "none"
    assert place(NEED, FreeMemory(21, 21, is_cpu=True), "auto") is None


def activations(shape: ClipShape) -> int:
    return clip_activations(SCOPE_5B, WAN22_VAE, shape, torch.bfloat16)


@pytest.mark.parametrize(
    ("device", "host", "offload", "words"),
    [
        (16, 64, "none", r"GPU memory .*; use --offload auto\.$"),
        (5, 64, "auto", r"--size \d+x\d+ --frames \d+ --offload auto would fit\.$"),
        (1, 64, "auto", r"no size of this model fits.*--model nano"),
        (6, 8, "auto", r"Reading the prompt needs 11.6 GiB"),
    ],
)
def test_a_refusal_says_what_would_fit(scope: ClipNeed, device: int, host: int, offload: str, words: str) -> None:
    with pytest.raises(ScopeError, match=words):
        require_placement(scope, free(device * GIB, host * GIB), offload, ClipShape(), activations)


def test_free_memory_is_measured() -> None:
    assert 0 < host_free() < 2**50
    now = FreeMemory.now(torch.device("cpu"))
    assert now.is_cpu
    assert now.device == now.host


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_estimates_of_activations_are_close_to_what_lives(dtype: torch.dtype) -> None:
    config = DiTConfig(dim=384, layers=2, heads=3, ffn_dim=1792, text_dim=64)
    network = DiT(config).to(dtype)
    latents, text = torch.zeros(1, 48, 5, 16, 24, dtype=dtype), network.text_keys(torch.zeros(1, 16, 64, dtype=dtype))
    rows = {"buttons": torch.ones(1, 17, 6, dtype=dtype), "sticks": torch.ones(1, 17, 4, dtype=dtype)}

    def one_pass() -> None:
        network(latents, torch.tensor([[500.0]]), text_cache=text, **rows)

    lived = peak_live_bytes(network, one_pass)
    assert lived < pass_bytes(config, 5 * 8 * 12, dtype) * MARGIN < 1.5 * lived


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_estimates_of_decoding_are_close_to_what_lives(dtype: torch.dtype) -> None:
    config = VAEConfig(dim=8, dec_dim=32)
    vae = WanVAE(VAENetwork(config).to(dtype))

    def decode() -> None:
        stream = vae.decoder()
        for _ in range(3):
            stream.push(torch.zeros(1, 48, 1, 6, 10, dtype=dtype))

    lived = peak_live_bytes(vae.network, decode)
    assert lived < decode_bytes(config, 96, 160, dtype) * MARGIN < 2 * lived


def test_a_session_holds_what_was_counted() -> None:
    need = stream_need(SMALL, 1000, 6, torch.float32)
    for kv_dtype in ("full", "fp8"):
        layout = CacheConfig(5, 1, kv_dtype)
        held = StreamCache(SMALL, layout, batch=1, tokens=6, dtype=torch.float32).nbytes
        widened = 5 * need.widened if kv_dtype == "fp8" else 0
        assert need.weights == module_bytes(lambda: DiT(SMALL), torch.float32) + 1000
        assert need.on_device(layout) == int(MARGIN * (need.weights + need.working + held + widened))


def test_eight_bits_are_counted_as_they_are_stored() -> None:
    config = replace(SMALL, heads=3)
    network = DiT(config)
    quantise_blocks(network, "int8")
    stored = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    assert network_bytes(config, torch.float32, "int8") == stored < network_bytes(config, torch.float32)


def test_scope_fits_a_card_of_24_gb() -> None:
    """480x832 with a window of 12 latents, of which such a card leaves about 23 GiB."""
    demand = MemoryEstimate(SCOPE_5B, WAN22_VAE, torch.bfloat16)
    stream = OFFICIAL_STREAM
    in_full = demand.nbytes(stream, MemoryOptions())
    lighter = dict(demand.lighter(stream, MemoryOptions()))
    assert stream.window == 12
    assert in_full > 23 * GIB
    assert lighter["--precision int8 --cache fp8"] < 18 * GIB
    assert lighter["--precision int8 --cache fp8 --decoder tiny"] < 13 * GIB
    assert list(lighter.values()) == sorted(lighter.values(), reverse=True)
    with pytest.raises(ScopeError, match=r"or use --precision int8\."):
        require_stream(
            demand.need(stream, MemoryOptions()), free(23 * GIB, 0), cache_config(stream, False), tuple(lighter.items())
        )
    with pytest.raises(ScopeError, match=r"or use --precision int8 --cache fp8 --decoder tiny\."):
        require_stream(
            demand.need(stream, MemoryOptions()), free(15 * GIB, 0), cache_config(stream, False), tuple(lighter.items())
        )


@torch.no_grad()
def test_estimate_of_the_tiny_decoder_is_close_to_what_lives() -> None:
    network = TaehvDecoder()
    stream = TaehvStream(network)
    stream.push(torch.zeros(1, 48, 1, 6, 10))
    lived = peak_live_bytes(network, lambda: stream.push(torch.zeros(1, 48, 1, 6, 10)))
    assert lived < preview_bytes(96, 160, torch.float32) * MARGIN < 2.5 * lived


@torch.no_grad()
def test_estimate_of_encoding_is_close_to_what_lives() -> None:
    config = VAEConfig(dim=32, dec_dim=8)
    vae = WanVAE(VAENetwork(config))
    lived = peak_live_bytes(vae.network, lambda: vae.encoder().push(torch.zeros(1, 3, 1, 96, 160)))
    assert lived < encode_bytes(config, 96, 160, torch.float32) * MARGIN < 1.5 * lived


def test_a_window_that_does_not_fit_is_refused_with_one_that_does() -> None:
    need = StreamNeed(weights=10 * GIB, working=GIB, per_latent=GIB, per_latent_fp8=GIB // 2, widened=0)
    require_stream(need, free(27 * GIB, 0), CacheConfig(window=12))
    with pytest.raises(ScopeError, match=r"needs 26.4 GiB of GPU memory, and 20.0 GiB are free.*a window of 6 latents"):
        require_stream(need, free(20 * GIB, 0), CacheConfig(window=12))
    with pytest.raises(ScopeError, match="nano"):
        require_stream(need, free(8 * GIB, 0), CacheConfig(window=12))

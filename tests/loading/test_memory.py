"""What models take: the estimate against sessions and clips that are really run; and the refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.loading.free_memory import GIB, FreeMemory, host_free
from scope_play.loading.memory import (
    MARGIN,
    Need,
    clip_need,
    module_bytes,
    network_bytes,
    official_stream_need,
    slot_bytes,
    slot_bytes_fp8,
    text_bytes,
    text_key_bytes,
    tokens_per_latent,
)
from scope_play.loading.placement import place, require_place, smaller_clips
from scope_play.loading.scope import OFFICIAL_STREAM, MemoryEstimate, MemoryOptions
from scope_play.model.dit.config import SCOPE_5B, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.model.taehv import PreviewCodec, TaehvDecoder
from scope_play.model.umt5.encoder import UMT5_XXL, TextEncoder, TextEncoderConfig
from scope_play.model.wan_vae.config import WAN22_VAE, VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.runtime.kv_cache import CacheConfig, StreamCache
from scope_play.runtime.live_bytes import peak_live_bytes
from scope_play.runtime.offload import FileBlocks, StreamedBlocks
from scope_play.runtime.quantize import quantise_blocks
from scope_play.sampling.clip import ClipShape, Conditions, Sampling, generate_clip
from scope_play.sampling.stream_config import StreamConfig
from scope_play.session.loaded_model import LoadedModel
from scope_play.weights.checkpoint import build_on_meta
from scope_play.world import World

SMALL = DiTConfig(dim=48, layers=3, heads=2, ffn_dim=64, in_channels=4, out_channels=4, text_dim=8, freq_dim=16)
MIDDLE = DiTConfig(dim=256, layers=3, heads=2, ffn_dim=768, text_dim=64)
VAE = VAEConfig(dim=16, dec_dim=24)
SIZE = (96, 128)
SCOPE_CLIP = clip_need(SCOPE_5B, WAN22_VAE, ClipShape(), Sampling(), torch.bfloat16)


def test_the_released_weights_are_as_large_as_their_manifests_say() -> None:
    assert SCOPE_CLIP.weights == 2 * (7_839_099_072 + 704_688_668)
    assert network_bytes(SCOPE_5B, torch.bfloat16) == 2 * 7_839_099_072
    assert 30 * SCOPE_CLIP.block == SCOPE_CLIP.blocks
    assert tokens_per_latent(SCOPE_5B, (30, 52)) == 390
    assert 2 * 5_680_910_336 < text_bytes(UMT5_XXL, torch.bfloat16, streamed=False) < 13 * GIB
    assert text_bytes(UMT5_XXL, torch.bfloat16, streamed=True) < 4 * GIB


def test_a_clip_takes_what_it_took_on_a_gpu() -> None:
    """An H100 held 19.4 GiB at most for 81 frames in bfloat16 (`bench clip`, in the log)."""
    assert 19.4 * GIB < SCOPE_CLIP.on_device() < 1.1 * 19.4 * GIB


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


def test_eight_bits_are_counted_as_they_are_stored() -> None:
    config = replace(SMALL, heads=3)
    network = DiT(config)
    quantise_blocks(network, "int8")
    stored = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
    assert network_bytes(config, torch.float32, "int8") == stored < network_bytes(config, torch.float32)


def held(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind tensors, each counted once."""
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


def tensors_of(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def stream_from_memory(network: DiT) -> list[Tensor]:
    """Puts `network.blocks` into a store that counts as files; returns what stays in the slots."""
    state = {name: tensor.detach() for name, tensor in network.blocks.named_parameters()}
    names = [{name: f"{i}.{name}" for name, _ in block.named_parameters()} for i, block in enumerate(network.blocks)]
    first, dtype = network.blocks[0], next(network.parameters()).dtype
    del first

    def read(wanted: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        return ((name, state[name]) for name in wanted)

    def room() -> nn.Module:
        return build_on_meta(lambda: DiT(network.config)).blocks[0].to(dtype).to_empty(device="cpu")

    network.blocks = StreamedBlocks(FileBlocks(read, names), room, torch.device("cpu"))
    return [x for slot in network.blocks._slots for x in slot.module.parameters()]


def measured_session(stream: StreamConfig, dtype: torch.dtype, linears: str | None, decoder: str, offload: bool) -> int:
    """The most that a world of MIDDLE and VAE holds while a game is begun and its window fills."""
    torch.manual_seed(0)
    network = DiT(MIDDLE).to(dtype).requires_grad_(False)
    quantise_blocks(network, linears or "bf16")
    slots = stream_from_memory(network) if offload else []
    vae = WanVAE(VAENetwork(VAE).to(dtype).requires_grad_(False))
    codec: WanVAE | PreviewCodec = vae
    kept = [*slots]
    if decoder == "tiny":
        vae.drop_decoder()
        tiny = TaehvDecoder().to(dtype).requires_grad_(False)
        codec, kept = PreviewCodec(vae, tiny), [*kept, *tensors_of(tiny)]

    def read(prompt: str) -> Tensor:
        return torch.randn(1, 512, MIDDLE.text_dim or 0, generator=torch.Generator().manual_seed(len(prompt)))

    model = LoadedModel(network, codec, stream, SIZE, prompt_reader=read, negative_prompt="none")  # type: ignore[arg-type]
    kept += [*tensors_of(network), *tensors_of(vae.network)]
    if isinstance(model.streaming_network, nn.Module):
        kept += tensors_of(model.streaming_network)

    def play() -> None:
        with World(model).start(np.zeros((*SIZE, 3), np.uint8), "a prompt") as session:
            for _ in range(stream.window + 1):
                session.step(np.zeros((4 * stream.chunk, 10), np.float32))

    return held(kept) + peak_live_bytes(kept, play)


STREAM = StreamConfig(steps=1, shift=5.0, window=4)


@pytest.mark.parametrize(
    ("changes", "linears", "decoder", "offload"),
    [
        ({}, None, "full", False),
        ({"guidance": 5.0}, None, "full", False),
        ({"guidance": 5.0, "action_guidance": 2.0}, None, "full", False),
        ({"action_guidance": 2.0}, None, "full", False),
        ({"mode": "window"}, None, "full", False),
        ({"mode": "window", "guidance": 5.0}, None, "full", False),
        ({"cache": "fp8"}, None, "full", False),
        ({}, "int8", "full", False),
        ({}, "int8", "tiny", False),
        ({}, None, "full", True),
        ({"chunk": 2}, None, "full", False),
    ],
)
def test_a_session_holds_what_was_estimated(
    changes: dict[str, float], linears: str | None, decoder: str, offload: bool
) -> None:
    dtype = torch.bfloat16 if offload else torch.float32
    stream = replace(STREAM, **changes)  # type: ignore[arg-type]
    need = official_stream_need(MIDDLE, VAE, stream, SIZE, dtype, linears=linears, decoder=decoder, offloaded=offload)
    estimate = need.tensors("disk" if offload else "none")
    measured = measured_session(stream, dtype, linears, decoder, offload)
    assert 0.9 * measured < estimate < 1.1 * measured


@pytest.mark.parametrize("dtype", [torch.float32])
@pytest.mark.parametrize(
    ("guidance", "action_guidance", "offload"),
    [(1.0, 1.0, False), (5.0, 1.0, False), (5.0, 2.0, False), (5.0, 1.0, True)],
)
def test_a_clip_holds_what_was_estimated(
    guidance: float, action_guidance: float, offload: bool, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    network = DiT(MIDDLE).to(dtype).requires_grad_(False)
    vae = WanVAE(VAENetwork(VAE).to(dtype).requires_grad_(False))
    slots = stream_from_memory(network) if offload else []
    kept = [*slots, *tensors_of(network), *tensors_of(vae.network)]
    shape, sampling = ClipShape(17, *SIZE), Sampling(1, guidance=guidance, action_guidance=action_guidance)
    contexts = [torch.randn(1, 512, MIDDLE.text_dim or 0, dtype=dtype) for _ in range(2)]
    rows = [torch.ones(1, 17, width, dtype=dtype) for width in (6, 4)]
    conditions = Conditions(contexts[0], contexts[1] if guidance != 1 else None, *rows)
    picture = np.zeros((*SIZE, 3), np.uint8)
    measured = held(kept) + peak_live_bytes(
        [*kept, *contexts], lambda: generate_clip(network, vae, conditions, picture, shape, sampling, dtype=dtype)
    )
    need = clip_need(MIDDLE, VAE, shape, sampling, dtype)
    estimate = need.tensors("disk" if offload else "none")
    assert 0.9 * measured < estimate < 1.1 * measured


@torch.no_grad()
def test_reading_a_prompt_holds_what_was_estimated() -> None:
    config = TextEncoderConfig(vocab=900, dim=256, dim_attn=256, dim_ffn=640, heads=8, layers=4)
    encoder = TextEncoder(config)
    ids = torch.ones(1, 512, dtype=torch.long)
    measured = held(encoder.parameters()) + peak_live_bytes(encoder.parameters(), lambda: encoder(ids, ids))
    assert 0.9 * measured < text_bytes(config, torch.float32, streamed=False) / MARGIN < 1.1 * measured


NEED = Need(weights=17, blocks=14, block=1, held=0, working=3, loading=1, text=12)


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
        (16, 13, "auto", "disk"),
        (5, 100, "auto", None),
        (8, 11, "auto", None),
        (11, 14, "auto", "blocks"),
    ],
)
def test_placement(device: int, host: int, offload: str, expected: str | None) -> None:
    assert place(lambda mode: NEED, free(device, host), offload) == expected


def test_on_the_cpu_host_and_device_are_one() -> None:
    assert place(lambda mode: NEED, FreeMemory(23, 23, is_cpu=True), "auto") == "none"
    assert place(lambda mode: NEED, FreeMemory(20, 20, is_cpu=True), "auto") == "disk"
    assert place(lambda mode: NEED, FreeMemory(11, 11, is_cpu=True), "auto") is None


def smaller() -> Iterator[tuple[str, Need]]:
    text = text_bytes(UMT5_XXL, torch.bfloat16, streamed=True)
    for one in smaller_clips(ClipShape()):
        need = clip_need(SCOPE_5B, WAN22_VAE, one, Sampling(), torch.bfloat16, text=text)
        yield f"--size {one.height}x{one.width} --frames {one.frames}", need


@pytest.mark.parametrize(
    ("device", "host", "offload", "words"),
    [
        (16, 64, "none", r"GPU memory, and 16.0 GiB are free; close other programs, or use --offload blocks\.$"),
        (16, 12, "none", r"use --offload disk\.$"),
        (16, 12, "blocks", r"GiB of host memory, and 12.0 GiB are free; close other programs, or use --offload disk"),
        (5, 64, "auto", r"use --size \d+x\d+ --frames \d+ --offload disk\.$"),
        (1, 64, "auto", r"no way of using this model fits.*--model nano"),
        (2, 1, "auto", r"Reading the prompt needs \d\.\d GiB of memory, and 2.0 GiB are free"),
        (80, 80, "ram", r"offload 'ram' is not known; use one of auto, none, blocks, disk"),
    ],
)
def test_a_refusal_says_what_would_fit(device: int, host: int, offload: str, words: str) -> None:
    need = replace(SCOPE_CLIP, text=text_bytes(UMT5_XXL, torch.bfloat16, streamed=True))
    with pytest.raises(ScopeError, match=words):
        require_place(lambda mode: need, free(device * GIB, host * GIB), offload, "This clip", smaller())


def test_free_memory_is_measured() -> None:
    assert 0 < host_free() < 2**50
    now = FreeMemory.now(torch.device("cpu"))
    assert now.is_cpu
    assert now.device == now.host


def scope_stream(decoder: str = "full") -> Callable[[str], Need]:
    estimate = MemoryEstimate(SCOPE_5B, WAN22_VAE, torch.bfloat16, on_gpu=True)
    return lambda mode: estimate.need(OFFICIAL_STREAM, MemoryOptions(decoder=decoder), mode)


@pytest.mark.parametrize(
    ("mode", "offload", "apart"), [("cached", "none", True), ("window", "none", False), ("cached", "blocks", False)]
)
def test_what_is_recorded_keeps_its_memory(mode: str, offload: str, apart: bool) -> None:
    """On a GPU a pass and the decoding then do not use the same one in turns."""
    stream, options = replace(OFFICIAL_STREAM, mode=mode), MemoryOptions()
    here, there = (
        MemoryEstimate(MIDDLE, VAE, torch.float32, on_gpu=gpu).need(stream, options, offload) for gpu in (False, True)
    )
    assert (there.working > here.working) == apart
    assert replace(there, working=0) == replace(here, working=0)


def test_scope_fits_a_card_of_24_gb() -> None:
    """480x832 with a window of 12 latents, of which such a card leaves about 23 GiB."""
    estimate = MemoryEstimate(SCOPE_5B, WAN22_VAE, torch.bfloat16, on_gpu=True)
    lighter = list(estimate.lighter(OFFICIAL_STREAM, MemoryOptions()))
    sizes = {words: need.on_device() for words, need in lighter}
    assert scope_stream()("none").on_device() > 23 * GIB
    assert sizes["--precision int8 --cache fp8"] < 18 * GIB
    assert sizes["--precision int8 --cache fp8 --decoder tiny"] < 13 * GIB
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    for device, words in ((23, r"use --precision int8\."), (12, r"use --precision int8 --cache fp8 --decoder tiny\.")):
        with pytest.raises(ScopeError, match=words):
            require_place(scope_stream(), free(device * GIB, GIB), "none", "Playing", lighter, in_real_time=True)

"""The decoder against the same layers as they are written down, and how its tensors lie in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from scope_play.bench.literal_decoder import LiteralDecoder
from scope_play.kernels.norm_silu_torch import norm_silu
from scope_play.model.wan_vae import layers
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.layers import CausalConv3d, StreamMemory, convolve_pairs
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import DecoderStream, WanVAE

SMALL = VAEConfig(dim=16, dec_dim=32)
LATENT = (2, 48, 1, 4, 6)
"""Two, since PyTorch convolves a single small input on a processor in a way of its own, which minds no layout."""
LIMIT = 1e-5
"""Of values around 1; the reference's own vectors are met to 5e-5."""


class Watch(TorchDispatchMode):
    """Numbers that are moved from one place to another, by operation, and convolutions whose channels lie apart."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: Counter[str] = Counter()
        self.convolutions = 0
        self.read_otherwise: list[tuple[Any, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket).removeprefix("aten.")
        if "conv" in name:
            self.convolutions += 1
            if args[0].stride(1) != 1:
                self.read_otherwise.append((args[0].shape, args[0].stride()))
        if name in ("cat", "clone", "copy_", "contiguous", "_to_copy", "constant_pad_nd", "repeat_interleave", "index"):
            self.moved[name] += out.numel()
        return out


def decoder_stream(network: VAENetwork, *, pairs: bool) -> DecoderStream:
    stream = WanVAE(network).decoder(clamp=False)
    stream.memory = StreamMemory(norm_silu, pairs=pairs)
    return stream


@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_it_is_what_is_written_down(pairs: bool, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where repeated channels and the places that they unfold into do not divide each other."""
    monkeypatch.setattr(layers, "WORTH_PAIRING", 1)
    torch.manual_seed(0)
    for config in (SMALL, VAEConfig(dim=8, dec_dim=8, dim_mult=(3, 3, 4), temporal_downsample=(True, False))):
        network = VAENetwork(config).requires_grad_(False)
        literal, stream = LiteralDecoder(network), decoder_stream(network, pairs=pairs)
        for latent in torch.randn(4, batch, 48, 1, 3, 5):
            expected = literal.push(latent)
            torch.testing.assert_close(stream.push(latent), expected, rtol=0, atol=LIMIT * float(expected.abs().max()))


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_frames_convolved_in_pairs(frames: int) -> None:
    """No further from the exact sums than the convolution that takes them one by one."""
    torch.manual_seed(frames)
    window, weight, bias = torch.randn(2, 24, frames + 2, 5, 6), torch.randn(8, 24, 3, 3, 3), torch.randn(8)
    exact = torch.conv3d(window.double(), weight.double(), bias.double(), padding=(0, 1, 1))
    direct = torch.conv3d(window, weight, bias, padding=(0, 1, 1))
    scale = exact.abs().max()
    assert (convolve_pairs(window, weight, bias) - exact).abs().max() / scale < 2e-6
    assert (direct - exact).abs().max() / scale < 2e-6
    without = convolve_pairs(window, weight, None)
    torch.testing.assert_close(without + bias.view(-1, 1, 1, 1), direct, rtol=0, atol=2e-6 * float(scale))


def test_what_is_moved_are_the_remembered_frames_and_enlarged_ones() -> None:
    """No copy for the sake of a layout and no joining; and every convolution reads what lies channels-last."""
    network = VAENetwork(SMALL).requires_grad_(False)
    stream, latent = decoder_stream(network, pairs=False), torch.randn(LATENT)
    for _ in range(2):
        stream.push(latent)
    expected = latent.numel()  # laid out, as the frames at the end are in turn

    def behind_its_past(conv: Any, inputs: tuple[Any, ...], out: Tensor) -> None:
        nonlocal expected
        x, _, *norm = inputs
        remembered = (conv.kernel_size[0] - 1) * x[:, :, 0].numel()
        expected += 2 * remembered + (0 if norm else x.numel())

    def with_edges(up: Any, inputs: tuple[Any, ...], out: Tensor) -> None:
        nonlocal expected
        expected += out.numel() // 4

    for module in network.decoder.modules():
        if isinstance(module, CausalConv3d):
            module.register_forward_hook(behind_its_past)
        if isinstance(module, layers.Upsample):
            module.register_forward_hook(with_edges)
    with Watch() as watch:
        frames = stream.push(latent)
    expected += frames.numel()
    taps = watch.moved.pop("cat")  # kernels' alone
    assert taps < sum(parameter.numel() for parameter in network.decoder.parameters())
    assert sum(watch.moved.values()) == expected
    assert watch.read_otherwise == []


@pytest.mark.parametrize("pairs", [False, True])
def test_every_convolution_reads_channels_last(pairs: bool) -> None:
    network = VAENetwork(SMALL).requires_grad_(False)
    decoder, encoder = decoder_stream(network, pairs=pairs), WanVAE(network).encoder()
    encoder.memory = StreamMemory(norm_silu, pairs=pairs)
    video = torch.rand(2, 3, 9, 16 * LATENT[3], 16 * LATENT[4])
    with Watch() as watch:
        for latent in torch.randn(3, *LATENT):
            decoder.push(latent)
        for frames in video.split([1, 4, 4], dim=2):
            encoder.push(frames)
    assert watch.convolutions > 150
    assert watch.read_otherwise == []

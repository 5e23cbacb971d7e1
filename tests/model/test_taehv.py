from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.taehv import MemoryBlock, PreviewCodec, TaehvDecoder, TaehvStream
from scope_play.model.wan_vae.config import VAEConfig
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.vae import WanVAE


@pytest.fixture(scope="module")
def network() -> TaehvDecoder:
    torch.manual_seed(0)
    return TaehvDecoder().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(1, 48, 3, 2, 3, generator=torch.Generator().manual_seed(1))


def whole_clip(network: TaehvDecoder, latents: Tensor) -> Tensor:
    """The published description, layer by layer over all frames at once: each memory block sees the frame before."""
    x = latents[0].transpose(0, 1)
    for layer in network.decoder:
        if isinstance(layer, MemoryBlock):
            before = torch.cat([torch.zeros_like(x[:1]), x[:-1]])
            x = F.relu(layer.conv(torch.cat([x, before], 1)) + x)
        else:
            x = layer(x)
    frames = F.pixel_shuffle(x, 2).clamp(0, 1)[3:]
    return (2 * frames - 1).transpose(0, 1)[None]


def test_streaming_equals_the_whole_clip(network: TaehvDecoder, latents: Tensor) -> None:
    stream = TaehvStream(network)
    parts = [stream.push(latents[:, :, :1]), stream.push(latents[:, :, 1:])]
    assert [part.shape for part in parts] == [(1, 3, 1, 32, 48), (1, 3, 8, 32, 48)]
    torch.testing.assert_close(torch.cat(parts, 2), whole_clip(network, latents), atol=1e-5, rtol=1e-5)


def test_batch_rows_do_not_mix(network: TaehvDecoder, latents: Tensor) -> None:
    together = TaehvStream(network).push(torch.cat([latents, -latents]))
    torch.testing.assert_close(together[:1], TaehvStream(network).push(latents), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together[1:], TaehvStream(network).push(-latents), atol=1e-5, rtol=1e-5)


def test_clones_go_their_own_way(network: TaehvDecoder, latents: Tensor) -> None:
    stream = TaehvStream(network)
    stream.push(latents[:, :, :1])
    twin = stream.clone()
    assert twin.nbytes == stream.nbytes > 0
    other = twin.push(-latents[:, :, 1:2])
    kept = stream.push(latents[:, :, 1:2])
    assert not torch.equal(other, kept)
    torch.testing.assert_close(kept, whole_clip(network, latents)[:, :, 1:5], atol=1e-5, rtol=1e-5)


def test_published_names_and_shapes_load(network: TaehvDecoder, latents: Tensor) -> None:
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert tensors["decoder.1.weight"].shape == (256, 48, 3, 3)
    assert tensors["decoder.3.conv.0.weight"].shape == (256, 512, 3, 3)
    assert tensors["decoder.7.conv.weight"].shape == (256, 256, 1, 1)
    assert tensors["decoder.13.conv.weight"].shape == (256, 128, 1, 1)
    assert "decoder.20.bias" not in tensors
    assert tensors["decoder.22.weight"].shape == (12, 64, 3, 3)
    tensors["encoder.0.weight"] = torch.zeros(1)
    grown = torch.cat([torch.zeros_like(tensors["decoder.7.conv.weight"]), tensors["decoder.7.conv.weight"]])
    loaded = TaehvDecoder.from_tensors({**tensors, "decoder.7.conv.weight": grown}, "taew2_2.pth")
    assert torch.equal(TaehvStream(loaded).push(latents), TaehvStream(network).push(latents))


def test_other_files_are_refused_by_name(network: TaehvDecoder) -> None:
    tensors = dict(network.state_dict())
    del tensors["decoder.22.bias"]
    with pytest.raises(ScopeError, match=r"taew2_1.pth: tensor 'decoder.22.bias' is missing"):
        TaehvDecoder.from_tensors(tensors, "taew2_1.pth")
    tensors = {**network.state_dict(), "decoder.1.weight": torch.zeros(256, 16, 3, 3)}
    with pytest.raises(
        ScopeError, match=r"'decoder.1.weight' is \(256, 16, 3, 3\) where taew2_2 has \(256, 48, 3, 3\)"
    ):
        TaehvDecoder.from_tensors(tensors, "taew2_1.pth")


def test_latents_of_another_model_are_refused(network: TaehvDecoder) -> None:
    with pytest.raises(ScopeError, match="48"):
        TaehvStream(network).push(torch.zeros(1, 16, 1, 2, 2))


def test_preview_codec_keeps_the_encoder(network: TaehvDecoder) -> None:
    full = WanVAE(VAENetwork(VAEConfig(dim=8, dec_dim=8)))
    codec = PreviewCodec(full, network)
    latent = codec.encoder().push(torch.zeros(1, 3, 1, 32, 32))
    assert codec.config is full.config
    assert codec.decoder().push(latent).shape == (1, 3, 1, 32, 32)

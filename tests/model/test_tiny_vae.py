"""The small autoencoder: streaming contract, causality, and a linear path that is a true PCA."""

from __future__ import annotations

import pytest
import torch

from scope_play.model.tiny_vae import TinyVAE, TinyVAEConfig, principal_components, to_patches, video_to_chunks

SMALL = TinyVAEConfig(latent_channels=8, decoder_widths=(8, 8, 8), decoder_blocks=1)


@pytest.fixture
def codec() -> TinyVAE:
    torch.manual_seed(0)
    model = TinyVAE(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.set_normalisation(torch.randn(8), torch.rand(8) + 0.5)
    return model.requires_grad_(False)


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(2, 3, 13, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes_of_a_stream(codec: TinyVAE, video: torch.Tensor) -> None:
    encoder, decoder = codec.encoder(), codec.decoder()
    first = encoder.push(video[:, :, :1])
    second = encoder.push(video[:, :, 1:5])
    assert first.shape == second.shape == (2, 8, 1, 2, 3)
    assert decoder.push(first).shape == (2, 3, 1, 32, 48)
    assert decoder.push(second).shape == (2, 3, 4, 32, 48)


def test_whole_video_is_the_stream(codec: TinyVAE, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    decoder = codec.decoder()
    pieces = torch.cat([decoder.push(latent) for latent in latents.split(1, dim=2)], dim=2)
    assert torch.equal(pieces, codec.decode(latents))
    assert pieces.shape == video.shape


def test_causal_in_time(codec: TinyVAE, video: torch.Tensor) -> None:
    changed = video.clone()
    changed[:, :, 9:] = 0
    assert torch.equal(codec.encode(video)[:, :, :3], codec.encode(changed)[:, :, :3])
    latents = codec.encode(video)
    later = latents.clone()
    later[:, :, 3] = 0
    assert torch.equal(codec.decode(latents)[:, :, :9], codec.decode(later)[:, :, :9])


def test_decoder_remembers_one_latent_and_no_more(codec: TinyVAE, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    other = latents.clone()
    other[:, :, 1] += 1
    same = (codec.decode(latents) == codec.decode(other)).flatten(3).all(3).all(1).all(0)
    assert same.tolist() == [True] + [False] * 8 + [True] * 4


def test_clone_is_independent(codec: TinyVAE, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    decoder = codec.decoder()
    assert decoder.nbytes == 0
    decoder.push(latents[:, :, :2])
    assert decoder.nbytes == latents[:, :, 1].nbytes
    fork = decoder.clone()
    decoder.push(torch.zeros_like(latents[:, :, :1]))
    assert torch.equal(fork.push(latents[:, :, 2:]), codec.decode(latents)[:, :, 5:])
    encoder = codec.encoder()
    copy = encoder.clone()
    encoder.push(video[:, :, :1])
    assert copy.push(video[:, :, :1]).shape[2] == 1


def test_normalisation_changes_latents_and_not_the_picture(codec: TinyVAE, video: torch.Tensor) -> None:
    before, picture = codec.encode(video), codec.decode(codec.encode(video))
    codec.set_normalisation(torch.randn(8), torch.rand(8) + 0.5)
    assert not torch.allclose(before, codec.encode(video), atol=1e-2)
    torch.testing.assert_close(codec.decode(codec.encode(video)), picture, atol=1e-5, rtol=1e-5)


def test_fresh_codec_is_the_best_linear_code(video: torch.Tensor) -> None:
    patches = to_patches(video_to_chunks(video).flatten(0, 1))
    components, mean, deviations = principal_components(patches, 8)
    torch.testing.assert_close(components @ components.T, torch.eye(8), atol=1e-4, rtol=0)
    model = TinyVAE(SMALL).eval()
    model.set_linear(components, mean, deviations)
    with torch.inference_mode():
        latents = model.encode(video)
        decoded = to_patches(video_to_chunks(video).flatten(0, 1) * 0 + _chunks_of(model, latents))
    expected = (patches - mean) @ components.T @ components + mean
    torch.testing.assert_close(decoded, expected, atol=1e-4, rtol=1e-4)
    flat = latents.permute(1, 0, 2, 3, 4).flatten(1)
    torch.testing.assert_close(flat.std(1), torch.ones(8), atol=1e-3, rtol=0)


def _chunks_of(model: TinyVAE, latents: torch.Tensor) -> torch.Tensor:
    flat = latents.transpose(1, 2).flatten(0, 1)
    return model.decode_chunk(flat, flat)


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_wrong_frame_counts_are_refused(codec: TinyVAE, video: torch.Tensor, frames: int) -> None:
    with pytest.raises(ValueError, match="frame"):
        codec.encode(video[:, :, :frames])
    with pytest.raises(ValueError, match="one frame first"):
        codec.encoder().push(video[:, :, :frames])


def test_wrong_sizes_are_refused(codec: TinyVAE) -> None:
    with pytest.raises(ValueError, match="16h"):
        codec.encoder().push(torch.zeros(1, 3, 1, 30, 48))
    with pytest.raises(ValueError, match="latents must be"):
        codec.decoder().push(torch.zeros(1, 7, 1, 2, 3))
    with pytest.raises(ValueError, match="three widths"):
        TinyVAEConfig(decoder_widths=(8, 8))  # type: ignore[arg-type]

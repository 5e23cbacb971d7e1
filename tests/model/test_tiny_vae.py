"""The small autoencoder: streaming contract, no memory, linear maps that are true principal components, features."""

from __future__ import annotations

import math

import pytest
import torch

from scope_play.model.tiny_vae import TinyVAE, TinyVAEConfig, principal_components, to_patches, video_to_chunks

SMALL = TinyVAEConfig(
    frame=(32, 64),
    latent_channels=20,
    patch_components=5,
    picture_components=8,
    renderer_width=16,
    renderer_blocks=1,
    finder_width=16,
    finder_blocks=1,
    width=8,
    blocks=1,
)


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(2, 3, 13, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def codec() -> TinyVAE:
    model = fitted()
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=draw))
    return model


def samples(count: int = 40) -> torch.Tensor:
    """Chunks (count, 3, 4, 32, 64) that a few directions explain."""
    draw = torch.Generator().manual_seed(3)
    basis = torch.randn(6, 3 * 4 * 32 * 64, generator=draw)
    return (torch.randn(count, 6, generator=draw) @ basis).view(count, 3, 4, 32, 64) * 0.2


def fitted() -> TinyVAE:
    torch.manual_seed(0)
    model = TinyVAE(SMALL).eval().requires_grad_(False)
    model.fit_patches(to_patches(samples()).flatten(0, 1))
    model.fit_pictures(model.patch_components(samples()), torch.linspace(1, 3, 8))
    return model


def test_shapes_of_a_stream(codec: TinyVAE, video: torch.Tensor) -> None:
    encoder, decoder = codec.encoder(), codec.decoder()
    first, second = encoder.push(video[:, :, :1]), encoder.push(video[:, :, 1:5])
    assert first.shape == second.shape == (2, 20, 1, 1, 1)
    assert decoder.push(first).shape == (2, 3, 1, 32, 64)
    assert decoder.push(second).shape == (2, 3, 4, 32, 64)
    assert SMALL.latent_size(32, 64) == (1, 1)


def test_whole_video_is_the_stream(codec: TinyVAE, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    stream = codec.encoder()
    pieces = [stream.push(video[:, :, :1]), *(stream.push(chunk) for chunk in video[:, :, 1:].split(4, 2))]
    torch.testing.assert_close(torch.cat(pieces, 2), latents, atol=1e-5, rtol=1e-5)
    decoder = codec.decoder()
    shown = torch.cat([decoder.push(latent) for latent in latents.split(1, dim=2)], dim=2)
    torch.testing.assert_close(shown, codec.decode(latents), atol=1e-5, rtol=1e-5)
    assert shown.shape == video.shape
    assert shown.abs().max() <= 1


def test_a_latent_shows_its_own_four_frames_and_no_others(codec: TinyVAE, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    other = latents.clone()
    other[:, :, 1] += 1
    same = (codec.decode(latents) - codec.decode(other)).abs().flatten(3).amax((0, 1, 3)) < 1e-5
    assert same.tolist() == [True] + [False] * 4 + [True] * 8
    changed = video.clone()
    changed[:, :, 9:] = 0
    torch.testing.assert_close(codec.encode(video)[:, :, :3], codec.encode(changed)[:, :, :3], atol=1e-5, rtol=1e-5)


def test_clone_is_independent(codec: TinyVAE, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    decoder, encoder = codec.decoder(), codec.encoder()
    fresh = decoder.clone()
    decoder.push(latents[:, :, :1])
    later = decoder.clone()
    assert fresh.push(latents[:, :, :1]).shape[2] == 1
    assert later.push(latents[:, :, 1:2]).shape[2] == 4
    copy = encoder.clone()
    encoder.push(video[:, :, :1])
    assert copy.push(video[:, :, :1]).shape[2] == 1


def test_principal_components_are_orthonormal_and_best() -> None:
    data = torch.randn(200, 12, generator=torch.Generator().manual_seed(4)) * torch.arange(12, 0, -1)
    components, mean, deviations = principal_components(data, 5)
    torch.testing.assert_close(components @ components.T, torch.eye(5), atol=1e-4, rtol=0)
    kept = ((data - mean) @ components.T).std(0)
    torch.testing.assert_close(kept, deviations, atol=1e-3, rtol=1e-3)
    best = torch.linalg.svdvals(data - data.mean(0))[:5] / 199**0.5
    torch.testing.assert_close(deviations, best, atol=1e-3, rtol=1e-3)
    fewer = principal_components(data[:8], 5)[0]  # fewer samples than numbers: the other Gram matrix
    torch.testing.assert_close(fewer @ fewer.T, torch.eye(5), atol=1e-4, rtol=0)


def test_linear_maps_keep_what_their_components_span() -> None:
    model, chunks = fitted(), samples()
    patches = model.patch_components(chunks)
    components = model.picture_components(patches)
    torch.testing.assert_close(components.std(0)[:5], torch.ones(5), atol=0.02, rtol=0)
    again = model.to_patches(components)
    assert (again - patches).square().mean() < 0.05 * patches.square().mean()
    drawn = model.draw(again)
    torch.testing.assert_close(to_patches(drawn), again @ model.patch_map + model.patch_mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.correct(drawn), drawn)  # the correction's last layer starts at zero


def test_latents_are_normalised_features(codec: TinyVAE) -> None:
    features = torch.randn(500, 20, generator=torch.Generator().manual_seed(5)) * 3 + 7
    codec.feature_mean.copy_(features.mean(0))
    codec.feature_std.copy_(features.std(0))
    latents = codec.from_features(features)
    torch.testing.assert_close(latents.mean(0), torch.zeros(20), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(20), atol=1e-5, rtol=0)
    drawn = codec.decode_chunk(latents[:2, :, None, None])
    expected = codec.correct(codec.draw(codec.to_patches(codec.renderer(features[:2]))))
    torch.testing.assert_close(drawn, expected, atol=1e-4, rtol=1e-4)


def test_a_heading_drawn_too_long_is_the_same_heading_to_the_waves(codec: TinyVAE) -> None:
    """Only the waves are fed here: then the length of (sine, cosine) must not matter, and a full turn is none."""
    renderer = codec.renderer
    with torch.no_grad():
        renderer.read.weight[:, : SMALL.latent_channels] = 0
    angles = torch.linspace(-3, 3, 7)
    features = torch.zeros(7, 4, 5)
    features[:, -1, 3], features[:, -1, 4] = angles.sin(), angles.cos()
    long = features.clone()
    long[:, -1, 3:] *= 1.7
    turned = features.clone()
    turned[:, -1, 3], turned[:, -1, 4] = (angles + 2 * math.pi).sin(), (angles + 2 * math.pi).cos()
    drawn = renderer(features.flatten(1))
    for other in (long, turned):
        torch.testing.assert_close(renderer(other.flatten(1)), drawn, atol=1e-4, rtol=1e-4)
    assert (drawn[1:] - drawn[:-1]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_wrong_frame_counts_are_refused(codec: TinyVAE, video: torch.Tensor, frames: int) -> None:
    with pytest.raises(ValueError, match="frame"):
        codec.encode(video[:, :, :frames])
    with pytest.raises(ValueError, match="one frame first"):
        codec.encoder().push(video[:, :, :frames])


def test_wrong_sizes_are_refused(codec: TinyVAE) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        codec.encoder().push(torch.zeros(1, 3, 1, 32, 48))
    with pytest.raises(ValueError, match="latents must be"):
        codec.decoder().push(torch.zeros(1, 7, 1, 1, 1))
    with pytest.raises(ValueError, match="does not divide"):
        TinyVAEConfig(frame=(48, 60))
    with pytest.raises(ValueError, match="latent_channels"):
        TinyVAEConfig(latent_channels=16)
    with pytest.raises(ValueError, match="frames of"):
        SMALL.latent_size(64, 64)


def test_first_frame_is_shown_four_times(video: torch.Tensor) -> None:
    chunks = video_to_chunks(video)
    assert chunks.shape == (2, 4, 3, 4, 32, 64)
    assert (chunks[:, 0] == video[:, :, :1]).all()
    assert torch.equal(chunks[:, 1], video[:, :, 1:5])

"""The small autoencoder: streaming contract, no memory, features."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from scope_play.model.nano_codec.codec import NanoCodec, NanoCodecConfig
from scope_play.model.nano_codec.light_field import CameraConfig, sight_line
from scope_play.records import read_record
from tests.helpers.small_codec import small_codec

SMALL = small_codec()


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(2, 3, 13, 32, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def codec() -> NanoCodec:
    torch.manual_seed(0)
    model = NanoCodec(SMALL).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(2)
    model.feature_mean.copy_(torch.randn(8, generator=draw).repeat(4))
    model.feature_std.copy_((0.5 + torch.rand(8, generator=draw)).repeat(4))
    return model


def test_shapes_of_a_stream(codec: NanoCodec, video: torch.Tensor) -> None:
    encoder, decoder = codec.encoder(), codec.decoder()
    first, second = encoder.push(video[:, :, :1]), encoder.push(video[:, :, 1:5])
    assert first.shape == second.shape == (2, 32, 1, 1, 1)
    assert decoder.push(first).shape == (2, 3, 1, 32, 64)
    assert decoder.push(second).shape == (2, 3, 4, 32, 64)
    assert SMALL.latent_size(32, 64) == (1, 1)


def test_whole_video_is_the_stream(codec: NanoCodec, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    stream = codec.encoder()
    pieces = [stream.push(video[:, :, :1]), *(stream.push(chunk) for chunk in video[:, :, 1:].split(4, 2))]
    torch.testing.assert_close(torch.cat(pieces, 2), latents, atol=1e-5, rtol=1e-5)
    decoder = codec.decoder()
    shown = torch.cat([decoder.push(latent) for latent in latents.split(1, dim=2)], dim=2)
    torch.testing.assert_close(shown, codec.decode(latents), atol=1e-5, rtol=1e-5)
    assert shown.shape == video.shape
    assert shown.abs().max() <= 1


def test_a_latent_shows_its_own_four_frames_and_no_others(codec: NanoCodec, video: torch.Tensor) -> None:
    latents = codec.encode(video)
    other = latents.clone()
    other[:, :, 1] += 1
    same = (codec.decode(latents) - codec.decode(other)).abs().flatten(3).amax((0, 1, 3)) < 1e-5
    assert same.tolist() == [True] + [False] * 4 + [True] * 8
    changed = video.clone()
    changed[:, :, 9:] = 0
    torch.testing.assert_close(codec.encode(video)[:, :, :3], codec.encode(changed)[:, :, :3], atol=1e-5, rtol=1e-5)


def test_a_frame_is_drawn_from_its_own_quarter_of_a_latent(codec: NanoCodec) -> None:
    latent = torch.randn(1, 32, 1, 1, generator=torch.Generator().manual_seed(3))
    drawn = codec.decode_chunk(latent)
    latent[:, 16:24] += 1
    changed = (codec.decode_chunk(latent) - drawn).abs().amax((0, 1, 3, 4))
    assert (changed > 1e-4).tolist() == [False, False, True, False]


def test_clone_is_independent(codec: NanoCodec, video: torch.Tensor) -> None:
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


def test_latents_are_normalised_features(codec: NanoCodec) -> None:
    features = torch.randn(500, 32, generator=torch.Generator().manual_seed(5)) * 3 + 7
    codec.feature_mean.copy_(features.mean(0))
    codec.feature_std.copy_(features.std(0))
    latents = codec.from_features(features)
    torch.testing.assert_close(latents.mean(0), torch.zeros(32), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.std(0), torch.ones(32), atol=1e-5, rtol=0)
    torch.testing.assert_close(codec.to_features(latents), features, atol=1e-4, rtol=1e-4)
    drawn = codec.decode_chunk(latents[:2, :, None, None])
    single = features[1, 8:16][None]
    torch.testing.assert_close(drawn[1:, :, 1], codec.field(single, codec.state(single)), atol=1e-4, rtol=1e-4)


def test_a_start_image_fills_its_latent_with_one_moment(codec: NanoCodec, video: torch.Tensor) -> None:
    latent = codec.encoder().push(video[:, :, :1])
    features = codec.to_features(latent.flatten(1)).unflatten(1, (4, 8))
    torch.testing.assert_close(features, features[:, :1].expand(-1, 4, -1), atol=1e-5, rtol=1e-5)


def test_settled_latents_are_within_bounds_with_whole_headings(codec: NanoCodec) -> None:
    codec.feature_low.fill_(-1.0)
    codec.feature_high.fill_(1.0)
    latents = 4 * torch.randn(3, 32, 2, 1, 1, generator=torch.Generator().manual_seed(4))
    projected = codec.project(latents)
    assert projected.shape == latents.shape
    before, after = (
        codec.to_features(some.movedim(1, -1)[:, :, 0, 0]).unflatten(-1, (4, 8)) for some in (latents, projected)
    )
    torch.testing.assert_close(after[..., 3:5].norm(dim=-1), torch.ones(3, 2, 4))
    others = [0, 1, 2, 5, 6, 7]
    torch.testing.assert_close(after[..., others], before[..., others].clamp(-1, 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codec.project(projected), projected, atol=1e-4, rtol=1e-4)


def test_settled_latents_look_along_their_own_camera() -> None:
    torch.manual_seed(0)
    codec = NanoCodec(small_codec(latent_channels=4 * 14, camera=CameraConfig(sight=8))).eval()
    latents = torch.randn(3, 56, 2, 1, 1, generator=torch.Generator().manual_seed(4))
    frames = codec.to_features(codec.project(latents).movedim(1, -1)[:, :, 0, 0]).unflatten(-1, (4, 14))
    torch.testing.assert_close(frames[..., 8:13], sight_line(frames, codec.config.camera))
    kept = codec.to_features(latents.movedim(1, -1)[:, :, 0, 0]).unflatten(-1, (4, 14))
    torch.testing.assert_close(frames[..., [7, 13]], kept[..., [7, 13]])


def test_the_config_survives_json() -> None:
    assert read_record(NanoCodecConfig, json.loads(json.dumps(asdict(SMALL))), "config.json") == SMALL


@pytest.mark.parametrize("frames", [2, 4, 6])
def test_wrong_frame_counts_are_refused(codec: NanoCodec, video: torch.Tensor, frames: int) -> None:
    with pytest.raises(ValueError, match="frame"):
        codec.encode(video[:, :, :frames])
    with pytest.raises(ValueError, match="one frame first"):
        codec.encoder().push(video[:, :, :frames])


def test_wrong_sizes_are_refused(codec: NanoCodec) -> None:
    with pytest.raises(ValueError, match="frames must be"):
        codec.encoder().push(torch.zeros(1, 3, 1, 32, 48))
    with pytest.raises(ValueError, match="latents must be"):
        codec.decoder().push(torch.zeros(1, 7, 1, 1, 1))
    with pytest.raises(ValueError, match="does not divide"):
        NanoCodecConfig(frame=(48, 60))
    with pytest.raises(ValueError, match="latent_channels"):
        NanoCodecConfig(latent_channels=24)
    with pytest.raises(ValueError, match="frames of"):
        SMALL.latent_size(64, 64)

"""The Wan2.2 autoencoder against the reference's vectors, and its streams against whole clips."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.model.wan_vae.config import LATENT_MEAN, LATENT_STD, WAN22_VAE, VAEConfig
from scope_play.model.wan_vae.layers import (
    ChannelNorm,
    average_down,
    double_and_convolve,
    interleave,
    patchify,
    unpatchify,
)
from scope_play.model.wan_vae.network import VAENetwork
from scope_play.model.wan_vae.tiling import Tiling
from scope_play.model.wan_vae.vae import WanVAE
from scope_play.records import read_record
from tests.helpers.golden import golden_cases, golden_json, golden_root, golden_tensors

FP32_LIMIT = 5e-5
BF16_LIMIT, BF16_MEAN_LIMIT = 0.16, 0.016


def golden_vae(dtype: torch.dtype = torch.float32) -> WanVAE:
    case = golden_cases("vae")[0]
    network = VAENetwork(VAEConfig.from_reference(case["config"]))
    network.load_state_dict(golden_tensors(case["weights"]))
    return WanVAE(network.requires_grad_(False)).to(dtype=dtype)


def random_latents() -> Tensor:
    """Five latent frames of 2x4 cells."""
    return torch.randn(1, 48, 5, 2, 4, generator=torch.Generator().manual_seed(0))


def random_video() -> Tensor:
    """17 frames of 32x64 pixels."""
    return torch.rand(1, 3, 17, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def run_case(case: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    vae, params = golden_vae(getattr(torch, case["dtype"])), case["params"]
    tiling = Tiling(tuple(params["tile_size"]), tuple(params["tile_stride"])) if params.get("tiled") else None
    if params["op"] == "encode":
        return {"out.latent": vae.encode(tensors["in.video"][None], tiling)}
    outputs = {"out.video": vae.decode(tensors["in.latent"], tiling)}
    if params.get("raw"):
        outputs["out.video_unclamped"] = vae.decode(tensors["in.latent"], tiling, clamp=False)
    return outputs


@pytest.mark.parametrize("case", golden_cases("vae"), ids=lambda case: case["id"])
def test_golden(case: dict[str, Any]) -> None:
    tensors = golden_tensors(case["file"])
    outputs = run_case(case, tensors)
    assert outputs.keys() == {name for name in tensors if name.startswith("out.")}
    for name, output in outputs.items():
        assert output.shape == tensors[name].shape
        difference = (output.float() - tensors[name].float()).abs()
        if case["dtype"] == "bfloat16":
            assert difference.max() < BF16_LIMIT
            assert difference.mean() < BF16_MEAN_LIMIT
        else:
            assert difference.max() < FP32_LIMIT


def test_a_wrong_norm_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChannelNorm, "gain", property(lambda self: self.gamma.flatten()))
    case = next(case for case in golden_cases("vae") if case["params"]["op"] == "decode")
    tensors = golden_tensors(case["file"])
    assert (run_case(case, tensors)["out.video"] - tensors["out.video"]).abs().max() > FP32_LIMIT


@pytest.mark.parametrize(
    "name", [n for n in ("encode", "decode") if (golden_root() / f"vae/{n}_small_mids.safetensors").exists()]
)
def test_intermediates_of_every_chunk(name: str) -> None:
    tensors = golden_tensors(f"vae/{name}_small_mids.safetensors")
    vae = golden_vae()
    seen: dict[str, list[Tensor]] = {}

    def watch(key: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            seen.setdefault(f"{key}.in", []).append(inputs[0].clone())
            seen.setdefault(key, []).append(output.clone())

        return hook

    wanted = {key.removeprefix("mid.").split(".chunk")[0] for key in tensors if key.startswith("mid.")}
    for key in wanted:
        if not key.endswith(".in"):
            vae.network.get_submodule(key).register_forward_hook(watch(key))
    if name == "encode":
        vae.encode(tensors["in.video"][None])
    else:
        vae.decode(tensors["in.latent"])
    for once in {"conv1", "conv2"} & seen.keys():  # the reference applies these to all chunks at once
        seen[once] = [torch.cat(seen[once], dim=2)]
    for key, expected in tensors.items():
        if key.startswith("mid."):
            layer, _, chunk = key.removeprefix("mid.").partition(".chunk")
            torch.testing.assert_close(seen[layer][int(chunk or 0)], expected, rtol=0, atol=FP32_LIMIT)


def test_units() -> None:
    units = golden_tensors("vae/units.safetensors")
    assert torch.equal(patchify(units["patchify_in"]), units["patchify_out"])
    assert torch.equal(unpatchify(units["patchify_out"]), units["unpatchify_back"])
    x = units["x8"]
    begun = [repeated(x[:, :, :1], 8, time=2, first=True), repeated(x[:, :, 1:], 8, time=2)]
    for name, got in {
        "avgdown_8to8_t1s1_x": average_down(x, 8, time=1, space=1),
        "avgdown_8to8_t1s2_x": average_down(x, 8, time=1, space=2),
        "avgdown_8to16_t2s2_x": average_down(x, 16, time=2, space=2),
        "avgdown_8to16_t2s2_1frame": average_down(x[:, :, :1], 16, time=2, space=2),
        "dupup_8to4_t1s2": repeated(x, 4, time=1),
        "dupup_8to4_t2s2": repeated(x, 4, time=2),
        "dupup_8to8_t2s2_first": torch.cat(begun, dim=2),
        "dupup_8to8_t2s2_notfirst": repeated(x, 8, time=2),
    }.items():
        torch.testing.assert_close(got, units[name], rtol=0, atol=1e-6, msg=name)


def repeated(x: Tensor, channels: int, time: int, first: bool = False) -> Tensor:
    """The shortcut of an up stage alone."""
    b, _, t, h, w = x.shape
    return interleave([torch.zeros(b, channels, t if first else t * time, h, w)] * 4, x, time, first)


@pytest.mark.parametrize("channels", [3, 6, 9, 12, 24])
def test_an_unfolded_shortcut_is_the_repeated_channels_rearranged(channels: int) -> None:
    """Also where repeats and places do not divide each other."""
    x = torch.randn(2, 12, 2, 3, 2)
    wide = x.repeat_interleave(channels * 8 // 12, dim=1)
    expected = rearrange(wide, "b (c dt dh dw) t h w -> b c (t dt) (h dh) (w dw)", dt=2, dh=2, dw=2)
    assert torch.equal(repeated(x, channels, time=2), expected)


@pytest.mark.parametrize("times", [1, 2])
def test_double_and_convolve_is_upsampling_then_convolution(times: int) -> None:
    x, weight, bias = torch.randn(2, 5 * times, 3, 3, 4), torch.randn(6, 5, 3, 3), torch.randn(6)
    frames = rearrange(x, "b (times c) t h w -> (b t times) c h w", times=times)
    enlarged = F.interpolate(frames, scale_factor=2, mode="nearest-exact")
    expected = rearrange(F.conv2d(enlarged, weight, bias, padding=1), "(b t) c h w -> b c t h w", b=2)
    corners = double_and_convolve(x, times, weight, bias)
    got = interleave(corners, torch.zeros(2, 6, 3, 3, 4), times, first=False) if times == 1 else None
    for place, corner in enumerate(corners):
        torch.testing.assert_close(corner, expected[..., place // 2 :: 2, place % 2 :: 2], rtol=1e-5, atol=1e-5)
    if got is not None:
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_constants() -> None:
    constants = golden_json("vae/constants.json")
    assert constants["mean"] == list(LATENT_MEAN)
    assert constants["std"] == list(LATENT_STD)
    assert VAEConfig.from_reference(constants["full_size"]) == WAN22_VAE
    assert WAN22_VAE.spatial_stride == constants["full_size"]["spatial_factor"]
    assert WAN22_VAE.temporal_stride == constants["full_size"]["temporal_factor"]
    assert read_record(VAEConfig, asdict(WAN22_VAE), "config.json") == WAN22_VAE


def test_names_and_shapes_of_the_released_size() -> None:
    with torch.device("meta"):
        network = VAENetwork(WAN22_VAE)
    manifest = {entry["name"]: tuple(entry["shape"]) for entry in golden_json("manifests/wan22_vae.json")}
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == manifest
    assert len(manifest) == 196


def test_a_prefix_decodes_and_encodes_to_the_same() -> None:
    vae, latents, video = golden_vae(), random_latents(), random_video()
    assert torch.equal(vae.decode(latents[:, :, :3]), vae.decode(latents)[:, :, :9])
    assert torch.equal(vae.encode(video[:, :, :9]), vae.encode(video)[:, :, :3])


@pytest.mark.parametrize("cuts", [[1, 1, 1, 1, 1], [3, 2], [1, 4]])
def test_decoder_stream_equals_whole_clip_however_it_is_cut(cuts: list[int]) -> None:
    latents = random_latents()
    vae = golden_vae()
    stream = vae.decoder()
    frames = torch.cat([stream.push(part) for part in latents.split(cuts, dim=2)], dim=2)
    assert torch.equal(frames, vae.decode(latents))


def test_a_cloned_stream_goes_its_own_way() -> None:
    latents = random_latents()
    stream = golden_vae().decoder()
    stream.push(latents[:, :, :2])
    branch = stream.clone()
    assert branch.nbytes == stream.nbytes > 0
    branch.push(-latents[:, :, 2:4])
    expected = golden_vae().decode(latents)[:, :, 5:9]
    assert torch.equal(stream.push(latents[:, :, 2:3]), expected)

    encoder, video = golden_vae().encoder(), random_video()[:, :, :9]
    encoder.push(video[:, :, :1])
    branch = encoder.clone()
    branch.push(-video[:, :, 1:5])
    assert torch.equal(encoder.push(video[:, :, 1:5]), golden_vae().encode(video)[:, :, 1:2])


def test_memory_of_a_stream_does_not_grow() -> None:
    latents = random_latents()
    stream = golden_vae().decoder()
    sizes = []
    for latent in latents.split(1, dim=2):
        stream.push(latent)
        sizes.append(stream.nbytes)
    assert sizes[1] == sizes[-1]  # the temporal up-samplers join in with the second chunk
    assert sizes[0] <= sizes[1]


def test_batch_rows_do_not_mix() -> None:
    latents = random_latents()[:, :, :3]
    vae = golden_vae()
    both = vae.decode(torch.cat([latents, -latents]))
    torch.testing.assert_close(both[:1], vae.decode(latents), rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1:], vae.decode(-latents), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 3, 4, 32, 32), (1, 3, 32, 32)])
def test_a_wrong_first_chunk_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ScopeError, match="push one frame first"):
        golden_vae().encoder().push(torch.zeros(shape))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ScopeError, match=r"40x32.*multiples of 16"):
        golden_vae().encode(torch.zeros(1, 3, 1, 40, 32))
    with pytest.raises(ScopeError, match="latents must be"):
        golden_vae().decode(torch.zeros(1, 16, 1, 2, 2))


def test_configs_that_contradict_themselves_are_refused() -> None:
    with pytest.raises(ScopeError, match="one fewer"):
        VAEConfig(temporal_downsample=(True,))
    with pytest.raises(ScopeError, match="one value per latent channel"):
        VAEConfig(z_dim=16)
    with pytest.raises(ScopeError, match="unknown key 'width'"):
        read_record(VAEConfig, {"width": 3}, "config.json")

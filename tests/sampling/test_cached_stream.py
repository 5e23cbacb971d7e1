"""The streaming sampler: noise, guidance, and the training-free modes for bidirectional weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows, window_rows
from scope_play.model.dit.config import ActionConfig, DiTConfig
from scope_play.model.dit.dit import DiT
from scope_play.runtime.plain_dit import PlainDiT
from scope_play.sampling.cached_stream import CachedStream
from scope_play.sampling.clip import Conditions, GuidedVelocity, Sampling, denoise
from scope_play.sampling.guidance import guidance_branches
from scope_play.sampling.schedule import make_sigmas
from scope_play.sampling.stream import CleanChunk, Past, Stream, latent_noise
from scope_play.sampling.stream_config import StreamConfig
from scope_play.sampling.window_stream import WindowStream

LATENTS = 5


def network(causal: bool, text: bool) -> DiT:
    config = DiTConfig(
        dim=48, layers=2, heads=2, ffn_dim=64, in_channels=8, out_channels=8, text_dim=16 if text else None,
        freq_dim=32, causal=causal,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    model = DiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.12, generator=generator)
    return model.eval().requires_grad_(False)


def make_stream(model: DiT, config: StreamConfig, first: Tensor) -> Stream:
    if config.mode == "window":
        return WindowStream(model, config, first)
    return CachedStream(PlainDiT(model), config, first)


@pytest.fixture
def clip() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "first": torch.randn(1, 8, 1, 4, 6, generator=generator),
        "noise": torch.randn(1, 8, LATENTS - 1, 4, 6, generator=generator),
        "buttons": (torch.rand(1, 4 * LATENTS, 6, generator=generator) > 0.5).float(),
        "sticks": torch.rand(1, 4 * LATENTS, 4, generator=generator) * 2 - 1,
        "prompt": torch.randn(1, 7, 16, generator=generator),
        "negative": torch.randn(1, 7, 16, generator=generator),
    }


def windows_of(clip: dict[str, Tensor], start: int, stop: int) -> ActionWindows:
    cut = [window_rows(clip[name], LATENTS, ActionConfig())[:, start:stop] for name in ("sticks", "buttons")]
    return ActionWindows(cut[0], cut[1])


@pytest.mark.parametrize("mode", ["cached", "window"])
@pytest.mark.parametrize(("guidance", "action_guidance"), [(1.0, 1.0), (3.0, 1.0), (3.0, 2.0)])
def test_one_chunk_over_everything_is_the_offline_pass(
    clip: dict[str, Tensor], mode: str, guidance: float, action_guidance: float
) -> None:
    model = network(causal=False, text=True)
    sampling = Sampling(steps=3, shift=5.0, guidance=guidance, action_guidance=action_guidance)
    conditions = Conditions(clip["prompt"], clip["negative"], clip["buttons"], clip["sticks"])
    whole = torch.cat([torch.zeros_like(clip["first"]), clip["noise"]], 2)
    velocity = GuidedVelocity(model, conditions, sampling, image_given=True)
    offline = denoise(velocity, whole, clip["first"], make_sigmas(3, 5.0))

    config = StreamConfig(
        steps=3, shift=5.0, chunk=LATENTS - 1, window=4, mode=mode, guidance=guidance, action_guidance=action_guidance
    )
    stream = make_stream(model, config, clip["first"])
    stream.set_text(model.text_keys(clip["prompt"]), model.text_keys(clip["negative"]))
    streamed = stream.denoise(clip["noise"], windows_of(clip, 1, LATENTS))
    assert (streamed - offline[:, :, 1:]).abs().max() <= 5e-5


@pytest.mark.parametrize("mode", ["cached", "window"])
def test_bidirectional_weights_stream_on_and_restore(clip: dict[str, Tensor], mode: str) -> None:
    model = network(causal=False, text=False)
    stream = make_stream(model, StreamConfig(steps=2, shift=5.0, window=3, mode=mode), clip["first"])

    def run(start: int, stop: int) -> list[Tensor]:
        made = []
        for index in range(start, stop):
            made.append(stream.denoise(clip["noise"][:, :, index - 1 : index], windows_of(clip, index, index + 1)))
            stream.commit()
        return made

    run(1, 3)
    kept = stream.snapshot()
    first = run(3, LATENTS)
    stream.restore(kept)
    again = run(3, LATENTS)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.isfinite(latents).all() for latents in first)


def test_actions_reach_the_picture_at_once(clip: dict[str, Tensor]) -> None:
    model = network(causal=True, text=False)
    outputs = []
    for value in (0.0, 1.0):
        stream = make_stream(model, StreamConfig(steps=1, window=3), clip["first"])
        windows = windows_of(clip, 1, 2)
        assert windows.sticks is not None
        sticks = windows.sticks.clone()
        sticks[:, :, -1, 2] = value
        outputs.append(stream.denoise(clip["noise"][:, :, :1], ActionWindows(sticks, windows.buttons)))
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3


def test_noise_is_a_function_of_seed_and_index() -> None:
    shape = (4, 1, 3, 3)
    assert torch.equal(latent_noise(7, 3, shape), latent_noise(7, 3, shape))
    draws = [latent_noise(seed, index, shape) for seed in (0, 1, -1) for index in (0, 1, 2)]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not torch.equal(a, b)
    many = latent_noise(5, 9, (64, 1, 40, 40))
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02


def test_guidance_asks_for_no_pass_it_does_not_need() -> None:
    assert len(guidance_branches(1, 1)) == 1
    assert len(guidance_branches(5, 1)) == 2
    assert len(guidance_branches(1, 2)) == 2
    assert len(guidance_branches(5, 2)) == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"mode": "fast"}, "mode 'fast'"), ({"steps": 0}, "steps is 0"), ({"window": 0}, "window is 0"),
     ({"cache": "fp4"}, "cache 'fp4' is not known")],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ScopeError, match=sentence):
        StreamConfig(**changes)  # type: ignore[arg-type]


def test_window_mode_refuses_causal_weights(clip: dict[str, Tensor]) -> None:
    with pytest.raises(ScopeError, match="for bidirectional weights"):
        make_stream(network(causal=True, text=False), StreamConfig(mode="window"), clip["first"])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("guidance", "window"), [(1.0, 8), (3.0, 8), (1.0, 2)])
def test_a_new_prompt_is_as_if_it_had_been_there_all_the_window(
    clip: dict[str, Tensor], causal: bool, guidance: float, window: int
) -> None:
    """The caches after a change equal those of a stream that saw the same clean latents under the new prompt alone."""
    model = network(causal, text=True)
    config = StreamConfig(steps=2, shift=5.0, window=window, guidance=guidance)
    new = torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(9))
    texts = [model.text_keys(clip[name]) for name in ("prompt", "negative")] + [model.text_keys(new)]
    negative = texts[1] if guidance != 1 else None

    changed = CachedStream(PlainDiT(model), config, clip["first"])
    changed.set_text(texts[0], negative)
    for index in range(1, LATENTS):
        changed.denoise(clip["noise"][:, :, index - 1 : index], windows_of(clip, index, index + 1))
        changed.commit()
    old = [tensor.clone() for memory in changed.cache.memories() for tensor in memory.tensors()]
    changed.set_text(texts[2], negative)

    fresh = CachedStream(PlainDiT(model), config, clip["first"])
    fresh.set_text(texts[2], negative)
    fresh.cache.clear(LATENTS - sum(chunk.latents.shape[2] for chunk in changed.kept))
    for chunk in changed.kept:
        fresh._write(chunk)
    assert fresh.cache.position == changed.cache.position == LATENTS
    kept = slice(fresh.cache.config.tail, fresh.cache.config.tail + min(window, changed.cache.filled))
    for mine, theirs in zip(changed.cache.memories(), fresh.cache.memories(), strict=True):
        for ours, expected in zip(mine.tensors(), theirs.tensors(), strict=True):
            torch.testing.assert_close(ours[:, kept], expected[:, kept], rtol=0, atol=2e-5)
    frames = fresh.cache.layers[1].frames.keys
    position = list(changed.cache.memories()).index(changed.cache.layers[1].frames)
    assert not torch.allclose(frames, old[2 * position], atol=1e-3)  # the prompt is heard in the caches
    fresh.opening = None
    noise, windows = clip["noise"][:, :, :1], windows_of(clip, LATENTS - 1, LATENTS)
    torch.testing.assert_close(changed.denoise(noise, windows), fresh.denoise(noise, windows), rtol=0, atol=2e-5)


CHANGES = [
    {"steps": 3},
    {"guidance": 2.0},
    {"guidance": 2.0, "action_guidance": 1.5},
    {"window": 2},
    {"window": 9},
    {"mode": "window"},
]


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("mode", ["cached", "window"])
def test_another_way_of_denoising_takes_up_what_was_remembered(
    clip: dict[str, Tensor], mode: str, changes: dict[str, float]
) -> None:
    """The chunk after a change is that of a stream which was always denoised so, and saw the same clean latents."""
    model = network(causal=False, text=True)
    before = StreamConfig(steps=2, shift=5.0, window=4, mode=mode)
    after = replace(before, **changes)  # type: ignore[arg-type]
    text, negative = (model.text_keys(clip[name]) for name in ("prompt", "negative"))

    def opened(config: StreamConfig) -> Stream:
        stream = make_stream(model, config, clip["first"])
        stream.set_text(text, negative)
        return stream

    stream, latents = opened(before), [clip["first"]]
    for index in range(1, LATENTS - 1):
        latents.append(stream.denoise(clip["noise"][:, :, index - 1 : index], windows_of(clip, index, index + 1)))
        stream.commit()
    other = opened(after)
    other.recall(stream.past)
    made = other.denoise(clip["noise"][:, :, -1:], windows_of(clip, LATENTS - 1, LATENTS))

    expected = opened(after)
    windows = windows_of(clip, 0, LATENTS - 1)
    seen = min(after.window, before.window, LATENTS - 1)
    chunks = tuple(CleanChunk(latents[i], windows.at(slice(i, i + 1))) for i in range(LATENTS - 1 - seen, LATENTS - 1))
    if mode == "cached" and after.mode == "cached":  # the opening is remembered with the first chunk, as it was made
        pair = CleanChunk(torch.cat(latents[:2], 2), windows.at(slice(0, 2)))
        chunks = (pair, *chunks[-2:]) if len(chunks) > 2 else chunks[-2:]
    expected.recall(Past(chunks, LATENTS - 1))
    wanted = expected.denoise(clip["noise"][:, :, -1:], windows_of(clip, LATENTS - 1, LATENTS))
    torch.testing.assert_close(made, wanted, rtol=0, atol=2e-5)

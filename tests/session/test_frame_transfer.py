from __future__ import annotations

import numpy as np
import pytest
import torch

from scope_play.images import to_frames
from scope_play.session.frame_transfer import CudaTransfer, FrameTransfer, HostTransfer, make_transfer, to_device


def transferred(transfer: FrameTransfer, device: str) -> None:
    latents = torch.rand(2, 3, 4, 5, 6, device=device) * 2 - 1
    done: list[bool] = []
    for scale in (1.0, 0.5):
        transfer.begin()
        transfer.denoised()
        transfer.decode(latents, lambda x: x * scale)  # noqa: B023, called at once
        frames, timings = transfer.take()
        assert frames.shape == (2, 4, 5, 6, 3)
        for one, video in zip(frames, latents.cpu(), strict=True):
            assert np.array_equal(one, to_frames(video[None] * scale))
        assert set(timings) == {"denoise", "decode"}
        transfer.commit(lambda: done.append(True), timings)
        transfer.finish()
        assert timings["commit"] >= 0
    assert len(done) == 2


def test_frames_on_the_host() -> None:
    assert isinstance(make_transfer(torch.device("cpu")), HostTransfer)
    transferred(HostTransfer(), "cpu")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_frames_from_a_gpu() -> None:
    transferred(CudaTransfer(torch.device("cuda")), "cuda")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_host_does_not_wait_for_a_commit() -> None:
    transfer, timings = CudaTransfer(torch.device("cuda")), {}
    transfer.commit(lambda: torch.cuda._sleep(2_000_000_000), timings)
    assert "commit" not in timings
    assert not transfer.committed.query()
    transfer.finish()
    assert timings["commit"] > 0


def test_numbers_for_the_device_are_the_same_ones() -> None:
    x = torch.randn(3)
    assert torch.equal(to_device(x, torch.device("cpu"), torch.bfloat16), x.bfloat16())


def test_taking_what_was_not_made_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="without a decode"):
        HostTransfer().take()

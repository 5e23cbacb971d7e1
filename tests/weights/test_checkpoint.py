"""Filling modules: strictly, all or nothing, and with the weights in host memory once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from scope_play.errors import ScopeError
from scope_play.weights.checkpoint import load_into
from scope_play.weights.sources import PickleSource, SafetensorsSource, Source


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.LayerNorm(4)
        self.register_buffer("scale", torch.ones(()))
        for parameter in self.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def source_of(state: dict[str, Tensor], path: Path) -> Source:
    if path.suffix == ".pth":
        torch.save(state, path)
        return PickleSource(path)
    save_file(state, path)
    return SafetensorsSource(path, [path])


def random_state() -> dict[str, Tensor]:
    return {name: torch.randn(tensor.shape) for name, tensor in Net().state_dict().items()}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_value_arrives(suffix: str, dtype: torch.dtype, tmp_path: Path) -> None:
    state, seen = random_state(), []
    source = source_of(state, tmp_path / f"net{suffix}")
    net = load_into(Net, source, dtype=dtype, progress=lambda done, total: seen.append((done, total)))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, state[name].to(dtype))
    assert net.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    total = sum(tensor.nbytes for tensor in state.values())
    assert seen[-1] == (total, total)
    assert len(seen) == len(state)


def test_the_module_does_not_hang_on_the_file(tmp_path: Path) -> None:
    source = source_of(random_state(), tmp_path / "net.pth")
    net = load_into(Net, source, dtype=torch.float32)
    before = net.conv.weight.clone()
    (tmp_path / "net.pth").write_bytes(b"")
    assert torch.equal(net.conv.weight, before)


def changed(change: str) -> dict[str, Tensor]:
    state = random_state()
    if change == "missing":
        del state["norm.weight"]
    elif change == "unexpected":
        state["extra"] = torch.ones(1)
    elif change == "renamed":
        state["norm.gain"] = state.pop("norm.weight")
    elif change == "reshaped":
        state["conv.weight"] = state["conv.weight"].flatten(1)
    elif change == "integer":
        state["conv.bias"] = torch.ones(4, dtype=torch.int64)
    return state


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", r"1 missing \(norm\.weight\)"),
        ("unexpected", r"1 unexpected \(extra\)"),
        ("renamed", r"1 missing \(norm\.weight\); 1 unexpected \(norm\.gain\)"),
        ("reshaped", r"1 misshapen \(conv\.weight is 4x27 instead of 4x3x3x3\)"),
        ("integer", r"1 not floating-point \(conv\.bias\)"),
    ],
)
def test_what_does_not_fit_is_named(change: str, said: str, suffix: str, tmp_path: Path) -> None:
    source = source_of(changed(change), tmp_path / f"net{suffix}")
    with pytest.raises(ScopeError, match=said) as refusal:
        load_into(Net, source, dtype=torch.float32)
    assert str(source.path) in str(refusal.value)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    source = source_of({f"x{number}": torch.ones(1) for number in range(9)}, tmp_path / "net.safetensors")
    with pytest.raises(ScopeError, match=r"5 missing \(conv\.bias, conv\.weight, norm\.bias, \.\.\.\); 9 unexpected"):
        load_into(Net, source, dtype=torch.float32)


def test_buffers_that_no_file_fills_are_a_bug(tmp_path: Path) -> None:
    class Tables(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.ones(2), persistent=False)

    with pytest.raises(TypeError, match="table"):
        load_into(Tables, source_of(random_state(), tmp_path / "net.pth"), dtype=torch.float32)


MEASURE = """
import sys
from pathlib import Path
import torch
from torch import nn
from scope_play.weights import sources
from scope_play.weights.checkpoint import load_into

sources.WINDOW_BYTES = 4 * 2**20

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

def build():
    return nn.Sequential(nn.Embedding(4000, 512), *[nn.Linear(512, 1024, bias=False) for _ in range(24)])

size = 4 * (4000 * 512 + 24 * 1024 * 512)
for path in map(Path, sys.argv[1:]):
    source = sources.PickleSource(path) if path.suffix == ".pth" else sources.SafetensorsSource(path, [path])
    source.tensors
    before, seen = resident(), []
    module = load_into(build, source, dtype=torch.float32, progress=lambda now, total: seen.append(resident()))
    print((max(seen) - before) / size)
    del module
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_peak_memory_stays_near_the_size_of_the_weights(tmp_path: Path) -> None:
    """58 MB of weights, of which one tensor is 8 MB; resident memory is read after every tensor."""
    state = {"0.weight": torch.ones(4000, 512)} | {f"{n}.weight": torch.ones(1024, 512) for n in range(1, 25)}
    files = [tmp_path / "big.pth", tmp_path / "big.safetensors"]
    for file in files:
        source_of(state, file)
    script = [sys.executable, "-c", MEASURE, *map(str, files)]
    ratios = subprocess.run(script, check=True, capture_output=True, text=True).stdout.split()
    assert len(ratios) == 2
    for ratio in ratios:
        assert 0.9 < float(ratio) < 1.2

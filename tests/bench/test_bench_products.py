from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scope_play.bench.costs import Gpu
from scope_play.bench.product_ways import Inputs, Line, cuts_for, fault, floor_seconds, in_turns, measure, ways
from scope_play.bench.products import best_of_each_way, block_times, table
from scope_play.cli import main
from scope_play.kernels import dispatch
from scope_play.kernels.dispatch import torch_kernels
from scope_play.kernels.product_table import SPLIT_K, STREAM_K, load_table
from scope_play.model.dit.config import NANO, SCOPE_5B
from scope_play.runtime.fused_linear import LinearShape, block_linears

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", block_linears(NANO), ids=lambda shape: shape.name)
def test_every_way_computes_the_same(shape: LinearShape) -> None:
    torch.manual_seed(0)
    small = shape._replace(inner=32, columns=48)
    i = Inputs(small, 2, 3, CPU, torch.float32, ["fp8", "int8"])
    with torch.inference_mode():
        made = {name: way(i) for name, way in ways(i, torch_kernels(""), []).items()}
    assert list(made) == ["torch", "twin", "fp8", "int8"]
    torch.testing.assert_close(made["twin"], made["torch"], atol=1e-5, rtol=1e-5)
    for way, error in (("fp8", 0.1), ("int8", 0.03)):
        torch.testing.assert_close(made[way], made["torch"], atol=error, rtol=error)
        assert (made[way] - made["torch"]).abs().max() > 1e-4


def test_sets_of_inputs_take_turns() -> None:
    made = [Inputs(block_linears(NANO)[0], 1, 1, CPU, torch.float32, []) for _ in range(2)]
    call = in_turns(ways(made[0], torch_kernels(""), [])["torch"], made)
    first, second, third = call(), call(), call()
    assert torch.equal(first, third)  # type: ignore[arg-type]
    assert not torch.equal(first, second)  # type: ignore[arg-type]


def test_floors_know_what_8_bits_save() -> None:
    shape, slow = LinearShape("", 1000, 1000, "add"), Gpu(tflops=1e9, terabytes=1e-6, source="")
    full, eight = (floor_seconds(shape, 2, way, 2, slow) for way in ("torch", "int8"))
    assert full == pytest.approx(2 * (1e6 + 2 * 3000) / 1e6)
    assert full - eight == pytest.approx(1.0)
    busy = Gpu(tflops=1e-6, terabytes=1e9, source="")
    assert floor_seconds(shape, 2, "torch", 2, busy) == 2 * floor_seconds(shape, 2, "fp8", 2, busy) == 4


def test_the_card_decides_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        multi_processor_count = 132

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties)
    for capability, widest in (((9, 0), 256), ((12, 0), 128), ((7, 7), 128)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        cuts = cuts_for(block_linears(SCOPE_5B)[0], 390, torch.device("cuda"), torch.bfloat16)
        assert {cut.way for cut in cuts} == {SPLIT_K, STREAM_K}
        assert {132, 264} <= {cut.parts for cut in cuts}
        assert max(cut.columns for cut in cuts) == widest
        assert len({str(cut) for cut in cuts}) == len(cuts)


def line(linear: str, way: str, microseconds: float, count: int = 1, fastest: bool = False) -> Line:
    return Line(linear, "none", 1, 390, 8, 8, count, way, microseconds, 1.0, 0.5, fastest)


def test_the_best_of_each_way_is_shown_and_a_block_added_up() -> None:
    lines = [
        line("a", "torch", 10, 2),
        line("a", "split-k 2, 64x64", 9, 2, fastest=True),
        line("a", "split-k 3, 64x64", 11, 2),
        line("a", "fp8", 8, 2),
        line("b", "torch", 5, 1, fastest=True),
    ]
    assert [each.microseconds for each in best_of_each_way(lines)] == [8, 9, 10, 5]
    assert block_times(lines) == {"1": {"torch": 25, "fastest": 23}}
    way = list(table(lines).columns[2].cells)
    assert way == ["fp8", "split-k 2, 64x64 *", "torch", "torch *"]


def test_the_command_on_a_cpu_times_torch_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--device", "cpu", "--latents", "1,2", "--repeats", "1", "--json", str(tmp_path)]
    assert main(["bench", "products", *options]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Triton is not timed" in shown
    assert "a block's linears, chunk of 2: torch's own" in shown
    result = json.loads((tmp_path / "products.json").read_text())
    assert {line["way"] for line in result["lines"]} == {"torch", "twin", "fp8", "int8"}
    assert {(line["inner"], line["columns"]) for line in result["lines"]} == {
        (256, 768),
        (256, 256),
        (256, 1024),
        (1024, 256),
    }
    assert sum(line["fastest"] for line in result["lines"]) == 2 * 6
    assert result["table"] == {}


def test_a_way_that_fails_or_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(i: Inputs) -> torch.Tensor:
        raise RuntimeError("no room\nat all")

    i = Inputs(block_linears(NANO)[0], 1, 2, CPU, torch.float32, [])
    want = ways(i, torch_kernels(""), [])["torch"](i)
    assert fault(broken, i, want) == "RuntimeError: no room"
    assert "differs from torch's own by 1.0e+00" in str(fault(lambda i: 0 * want, i, want))
    assert "by nan" in str(fault(lambda i: want + torch.nan, i, want))
    assert fault(lambda i: want, i, want) is None
    monkeypatch.setattr("scope_play.bench.product_ways.ways", lambda *given: ways(*given) | {"broken": broken})
    shape = LinearShape("", 32, 32, "none")
    lines, left_out = measure(shape, 1, 2, CPU, torch.float32, torch_kernels(""), [], 1)
    assert [each.way for each in lines] == ["torch", "twin", "fp8", "int8"]
    assert left_out == {"broken": "RuntimeError: no room"}


def test_tuning_keeps_the_fastest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a GPU, with times made up: every second linear is faster by a kernel."""
    from scope_play.bench import products
    from scope_play.kernels import product_table

    monkeypatch.setattr(product_table, "table_path", lambda: tmp_path / "mine.json")
    monkeypatch.setattr(
        products,
        "cuts_for",
        lambda shape, rows, device, dtype: product_table.candidates(rows, shape.columns, 4, product_table.TILES[:1]),
    )
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "NVIDIA H200")
    monkeypatch.setattr("scope_play.loading.device.pick_device", lambda device: torch.device("cuda"))
    chosen = dispatch.torch_kernels("made up")
    monkeypatch.setattr("scope_play.kernels.select", lambda *args, **sizes: products.replace(chosen, backend="triton"))

    def made_up(shape, latents, tokens, device, dtype, kernels, cuts, repeats):  # type: ignore[no-untyped-def]
        faster = str(cuts[1]) if shape.epilogue == "gate_add" else "torch"
        found = {"torch": 10.0, str(cuts[1]): 9.0 if faster != "torch" else 11.0, "fp8": 1.0}
        rows = latents * tokens
        lines = [
            Line(
                shape.name,
                shape.epilogue,
                latents,
                rows,
                shape.inner,
                shape.columns,
                1,
                way,
                us,
                1,
                None,
                way == faster,
            )
            for way, us in found.items()
        ]
        return lines, {"split-k 9": "it is not there"}

    monkeypatch.setattr(products, "measure", made_up)
    assert main(["bench", "products", "--tune", "--latents", "3", "--json", str(tmp_path)]) == 0
    kept = load_table(tmp_path / "mine.json")
    assert len(kept) == 6
    assert {key for key, cut in kept.items() if cut.way == STREAM_K} == {
        "NVIDIA H200 | bfloat16 | 1170 x 3072 -> 3072 | gate_add",
        "NVIDIA H200 | bfloat16 | 1170 x 14336 -> 3072 | gate_add",
    }
    assert capsys.readouterr().out.count("split-k 9, it is not there") == 6
    written = json.loads((tmp_path / "products.json").read_text())["table"]
    assert written == json.loads((tmp_path / "mine.json").read_text())


def test_what_cannot_be_done_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(dispatch, "_interpreting", lambda: False)
    assert main(["bench", "products", "--tune", "--device", "cpu"]) == 2
    assert "--tune needs the Triton kernels" in capsys.readouterr().err
    for words, says in ((["--latents", "1,x"], "--latents '1,x'"), (["--repeats", "0"], "--repeats is 0")):
        assert main(["bench", "products", "--device", "cpu", *words]) == 2
        assert says in capsys.readouterr().err

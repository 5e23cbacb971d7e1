"""`scope-play verify [DIR]`: golden vectors through the networks, as a table; exit code 1 if any is off.

`--cross` compares with other libraries' networks instead."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.commands.arguments import as_path
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scope_play.verify.golden import Check


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", nargs="?", type=as_path, metavar="DIR", help="golden vectors (default: this checkout's)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the networks run")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="only the cases in this precision (default: all)")
    parser.add_argument(
        "--cross",
        choices=("small", "real"),
        nargs="?",
        const="real",
        help="instead, against transformers and diffusers with the same random weights, at the real widths (8 GB)",
    )
    parser.add_argument("--failures", action="store_true", help="list only the checks that fail")


def run(args: argparse.Namespace) -> int:
    import torch

    from scope_play.verify.golden import GoldenFolder
    from scope_play.verify.networks import run_checks

    if args.cross is not None:
        return report(list(_cross(args.cross)), "cpu", failures_only=args.failures)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ScopeError("There is no CUDA device here; leave out --device cuda.")
    folder = GoldenFolder(args.folder or default_folder())
    dtypes = {"fp32": (torch.float32,), "bf16": (torch.bfloat16,)}
    wanted = dtypes.get(args.precision, (torch.float32, torch.bfloat16))
    checks = list(run_checks(folder, torch.device(args.device), wanted))
    return report(checks, args.device, failures_only=args.failures)


def _cross(widths: str) -> Iterator[Check]:
    from scope_play.verify.cross import WIDTHS, cross_checks

    return cross_checks(WIDTHS[widths])


def report(checks: list[Check], device: str, *, failures_only: bool) -> int:
    """Prints the checks; 1 if any failed."""
    shown = [check for check in checks if not (failures_only and check.passed)]
    if shown:
        show(shown)
    failed = sum(not check.passed for check in checks)
    cases = len({check.case for check in checks})
    print(f"{cases} cases, {len(checks)} checks on {device}: {failed or 'none'} failed")
    return 1 if failed else 0


def default_folder() -> Path:
    """The golden vectors of the checkout this package runs from; installed packages do not carry them."""
    folder = Path(__file__).parents[2] / "tests" / "golden"
    if not folder.is_dir():
        raise ScopeError("Golden vectors are part of the source checkout, not of the package; name a folder of them.")
    return folder


def show(checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in ("case", "quantity"):
        table.add_column(name, no_wrap=True)
    for name in ("max abs error", "limit", "pass"):
        table.add_column(name, justify="right")
    for check in checks:
        verdict = "[green]yes[/]" if check.passed else "[bold red]NO[/]"
        table.add_row(check.case, check.quantity, f"{check.error:.2g}", f"{check.limit:.2g}", verdict)
    Console().print(table)

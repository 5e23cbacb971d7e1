"""`scope-play download NAME`: fetch a checkpoint, or check one that was fetched."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scope_play.commands.arguments import as_path
from scope_play.errors import ScopeError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

    from scope_play.weights.catalog import Checkpoint
    from scope_play.weights.download import Manifest, RemoteFile
    from scope_play.weights.hashing import HashCache


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", default="scope", help="which checkpoint (default: scope)")
    parser.add_argument("--dir", type=as_path, metavar="DIR", help="where to (default: the user's data folder)")
    parser.add_argument("--offline", action="store_true", help="only check what is there, without the network")
    parser.add_argument("--list", action="store_true", help="list the known checkpoints")


def run(args: argparse.Namespace) -> int:
    from scope_play.weights.catalog import find_checkpoint
    from scope_play.weights.download import Manifest, check_space, checkpoint_folder, fault
    from scope_play.weights.hashing import HashCache
    from scope_play.weights.hub import ask_hub, connect, offline, reuse

    if args.list:
        return show_catalog()
    checkpoint = find_checkpoint(args.name)
    folder = args.dir or checkpoint_folder(checkpoint.name)
    hashes = HashCache()
    if args.offline or offline():
        return show_faults(folder, Manifest.read(folder), hashes)
    api = connect()
    manifest = ask_hub(api, checkpoint)
    print(f"{checkpoint.title} ({checkpoint.licence}, {checkpoint.source})")
    wanted = []
    for file in manifest.files:
        if fault(folder, file, hashes) is None:
            continue
        before = reuse(file, folder, manifest.repository, hashes)
        if before is None:
            wanted.append(file)
        else:
            print(f"{file.path}: taken from {before}")
    check_space(folder, wanted)
    manifest.write(folder)
    try:
        manifest = fetch_all(api, manifest, checkpoint, wanted, folder, hashes)
    except KeyboardInterrupt:
        print("stopped; the same command goes on where it stopped", file=sys.stderr)
        raise
    return show_faults(folder, manifest, hashes)


def fetch_all(
    api: HfApi,
    manifest: Manifest,
    checkpoint: Checkpoint,
    wanted: list[RemoteFile],
    folder: Path,
    hashes: HashCache,
) -> Manifest:
    """Fetches what is wanted; what can be done without and does not come is left out of the manifest."""
    from scope_play.progress import note
    from scope_play.weights.hub import fetch, without_optional

    for number, file in enumerate(wanted, 1):
        size = "" if file.nbytes is None else f", {file.nbytes / 1e9:.2f} GB"
        print(f"{number}/{len(wanted)} {file.path}{size}", flush=True)
        try:
            fetch(api, manifest, file, folder, hashes)
        except ScopeError as error:
            smaller = without_optional(manifest, checkpoint, file)
            if smaller is None:
                raise
            manifest = smaller
            manifest.write(folder)
            note(f"{error} It can be done without.")
    return manifest


def show_faults(folder: Path, manifest: Manifest, hashes: HashCache) -> int:
    """Prints what is wrong with a downloaded folder; 1 if anything is."""
    from scope_play.weights.download import fault

    faults = {file.path: fault(folder, file, hashes) for file in manifest.files}
    for path, problem in faults.items():
        if problem is not None:
            print(f"{path}: {problem}")
    if any(faults.values()):
        print(f"{folder} is not complete; run scope-play download {manifest.name} to mend it")
        return 1
    hashed = sum(file.sha256 is not None for file in manifest.files)
    print(
        f"{folder}: {len(faults)} files, {manifest.nbytes / 1e9:.2f} GB, complete; "
        f"{hashed} checked by SHA-256, the others by size"
    )
    return 0


def show_catalog() -> int:
    from rich.console import Console
    from rich.table import Table

    from scope_play.weights.catalog import CATALOG

    table = Table("name", "what it is", "size", "licence", "source", box=None, pad_edge=False)
    for entry in CATALOG.values():
        table.add_row(entry.name, entry.title, f"{entry.approximate_nbytes / 1e9:.2f} GB", entry.licence, entry.source)
    Console().print(table)
    return 0

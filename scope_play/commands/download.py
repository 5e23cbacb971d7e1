"""`scope-play download`: fetch the weights of a known checkpoint, or check those that are there."""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", default="scope", help="which checkpoint: scope (the default), wan2.2 or nano"
    )
    parser.add_argument("--to", type=Path, metavar="DIR", help="where to put it (default: this user's data folder)")
    parser.add_argument("--revision", help="branch, tag or commit of the repository (default: the newest)")
    parser.add_argument("--offline", action="store_true", help="do not use the network: only check what is there")


def run(args: argparse.Namespace) -> int:
    from scope_play.progress import StageBars
    from scope_play.weights.catalog import find_checkpoint
    from scope_play.weights.download import download_checkpoint, verify_files

    checkpoint = find_checkpoint(args.name)
    if checkpoint.repository is None:
        print(f"{checkpoint.name} comes with the package; play it with: scope-play play")
        return 0
    folder = args.to or default_folder(checkpoint.name)
    if not args.offline:
        print(f"{checkpoint.title}\n{checkpoint.source} ({checkpoint.licence}) -> {folder}")
        with StageBars() as bars:
            remote = download_checkpoint(checkpoint, folder, revision=args.revision, progress=bars)
        print(f"revision {remote.commit}, {sum(file.nbytes for file in remote.files) / 1e9:.1f} GB")
    if verified := verify_files(checkpoint, folder):
        print(f"{verified} files have the published sha256")
    if checkpoint.name == "scope":
        from scope_play.weights.official import open_scope_folder

        opened = open_scope_folder(folder)
        print(f"complete: {len(opened.hashes())} weight files, together sha256 {opened.sha256()}")
        print(f"generate with: scope-play generate --model {folder} ...")
    return 0


def default_folder(name: str) -> Path:
    """Where a downloaded checkpoint lies unless told otherwise."""
    from platformdirs import user_data_path

    return user_data_path("scope-play") / name

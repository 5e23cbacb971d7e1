"""Finding and reading the weights of the tiny preview decoder, which users fetch for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.model.taehv import TaehvDecoder
from scope_play.weights.sources import Source, open_source

NAMES = ("taew2_2.safetensors", "taew2_2.pth")
WHERE_FROM = "github.com/madebyollin/taehv"


def find_tiny_decoder(folders: Sequence[Path]) -> Source:
    """The first file of the tiny decoder in `folders`. Raises ScopeError that says which file is wanted, and where."""
    for folder in folders:
        for name in NAMES:
            file = folder / name
            if file.is_file():
                return open_source(file)
    raise ScopeError(
        f"The tiny decoder needs {' or '.join(NAMES)} from {WHERE_FROM} (MIT licence), and there is none in "
        f"{' or '.join(str(folder) for folder in folders)}; put it there, or leave out the tiny decoder."
    )


def read_tiny_decoder(source: Source) -> TaehvDecoder:
    """Raises ScopeError when the file is damaged or belongs to another model."""
    return TaehvDecoder.from_tensors({name: tensor.clone() for name, tensor in source.read()}, str(source.path))

"""Networks whose blocks stay in their files."""

from __future__ import annotations

from typing import Any

import torch

from scope_play.runtime.offload import FileBlocks, StreamedBlocks
from scope_play.weights.official import ScopeFolder


def load_streamed(folder: ScopeFolder, part: str, dtype: torch.dtype, device: torch.device) -> Any:
    """The network of part "dit" or "text_encoder", all but its blocks loaded.

    Raises ScopeError when the files are damaged; what they hold is read with every pass.
    """
    module, names, make_room = folder.without_blocks(part, dtype, device)
    module.blocks = StreamedBlocks(FileBlocks(folder.sources[part].read, names), make_room, device)
    return module

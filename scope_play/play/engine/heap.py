"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import sys


def give_back() -> bool:
    """Hands the system what the C library keeps of freed memory; True if it gave any.

    A session frees and takes some fifty megabytes a chunk while keyframes of it stay, so the heap grows around them:
    by a megabyte a minute for as long as one plays. Only glibc needs this, and only it has the call; elsewhere nothing
    happens. It takes five to twenty milliseconds.
    """
    if not sys.platform.startswith("linux"):
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return bool(trim(0)) if trim else False


def give_back_gpu() -> None:
    """Hands a GPU what PyTorch keeps of freed memory, if PyTorch is loaded and has one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()

"""Where the Triton kernels can run in this process: on a GPU, or in the interpreter (see test_interpreter.py)."""

from __future__ import annotations

import importlib.util

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> torch.device:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("triton is not installed")
    import triton

    if triton.knobs.runtime.interpret:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    pytest.skip("needs a GPU or TRITON_INTERPRET=1; test_interpreter.py runs this file that way")

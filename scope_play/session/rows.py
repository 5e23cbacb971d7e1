"""From the rows of a step to the windows that the network sees."""

from __future__ import annotations

import numpy as np
import torch

from scope_play.actions import AXES, BUTTONS, FRAMES_PER_LATENT, WINDOW_ROWS
from scope_play.errors import ScopeError
from scope_play.model.dit.action import ActionWindows
from scope_play.model.dit.config import ActionConfig
from scope_play.session.frame_transfer import to_device
from scope_play.session.loaded_model import LoadedModel


def rows_of_step(actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The rows as float32, or a ScopeError that says which shape or range was expected."""
    rows = np.asarray(actions)
    if rows.shape != shape:
        raise ScopeError(f"actions have shape {rows.shape}, but this world takes {shape} a step")
    if rows.dtype.kind not in "fiub":
        raise ScopeError(f"actions are {rows.dtype}, but must be numbers")
    rows = rows.astype(np.float32)
    buttons, sticks = rows[..., : len(BUTTONS)], rows[..., len(BUTTONS) :]
    if not np.isin(buttons, (0, 1)).all():
        raise ScopeError("button values must be 0 or 1; columns are " + ", ".join(BUTTONS))
    if not (np.abs(sticks) <= 1).all():
        raise ScopeError("stick values must lie in [-1, 1] and not be NaN; columns are " + ", ".join(AXES))
    return rows


def behind_history(rows: np.ndarray, history: np.ndarray, index: int, action: ActionConfig | None) -> np.ndarray:
    """The rows (B, n, 10) of chunk `index` behind those that windows reach back to; for the first see ActionConfig."""
    if index == 0:
        before = np.zeros_like(rows[:, :1]) if action is not None and action.from_rest else rows[:, :1]
        history = np.repeat(before, WINDOW_ROWS, axis=1)
    return np.concatenate([history, rows], axis=1)


def windows_of(joined: np.ndarray, model: LoadedModel) -> ActionWindows:
    """Windows of a chunk's latents, of its rows behind their history, where the model is."""
    ends = FRAMES_PER_LATENT * (1 + np.arange(model.spec.stream.chunk))
    rows = torch.from_numpy(joined[:, ends[:, None] + np.arange(WINDOW_ROWS)])
    if model.row_dtype is not None:
        rows = rows.to(model.row_dtype)
    values = to_device(rows, model.device, model.dtype)
    return ActionWindows(sticks=values[..., len(BUTTONS) :], buttons=values[..., : len(BUTTONS)])

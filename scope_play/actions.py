"""The 10-DoF action row: six buttons and two sticks, one row per video frame.

In memory a clip's actions are one float32 array `(rows, 10)`: six button columns in {0, 1} in the order of
`BUTTONS`, then left x, left y, right x, right y in [-1, 1]. Right and down are positive, so forward is negative
left y (SPEC.md section 2).
"""

from __future__ import annotations

BUTTONS: tuple[str, ...] = ("right_trigger", "left_trigger", "south", "right_thumb", "west", "north")
STICKS: tuple[str, ...] = ("j_left", "j_right")
AXES: tuple[str, ...] = ("left_x", "left_y", "right_x", "right_y")
COLUMNS: tuple[str, ...] = BUTTONS + AXES
ROW_WIDTH = len(COLUMNS)

FPS = 20
FRAMES_PER_LATENT = 4
WINDOWS = 4
WINDOW_ROWS = FRAMES_PER_LATENT * WINDOWS

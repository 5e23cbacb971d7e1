"""One thread for arithmetic, here and in what tests start, unless OMP_NUM_THREADS says otherwise: networks of this size
gain nothing from a second one, and threads that wait for each other on a busy machine cost minutes."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which is after this

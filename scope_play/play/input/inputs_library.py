"""Gamepads through the `inputs` library (`--gamepad inputs`): raw evdev or XInput, no window needed.

For Xbox pads on Linux (the xpad driver) and Windows; the library never finds a pad on macOS. Reading blocks, so each
pad has a daemon thread; another looks for new pads every two seconds. Events are stamped when they are read.
"""

from __future__ import annotations

import importlib
import os
import queue
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from scope_play.errors import ScopeError
from scope_play.play.input.translator import Device, Plugged, RawEvent, RawStick, Unplugged, Unusable
from scope_play.play.input.xpad import Ranges, XpadDecoder

RESCAN_SECONDS = 2.0
XINPUT_POLL_SECONDS = 1.0 / 250.0
AXES = {"ABS_X": 0, "ABS_Y": 1, "ABS_Z": 2, "ABS_RX": 3, "ABS_RY": 4, "ABS_RZ": 5, "ABS_GAS": 9, "ABS_BRAKE": 10}
EVIOCGABS = 0x80184540
"""Linux's request for an axis's `input_absinfo`: value, least, greatest, and three more int32. Add the axis."""


def load_library() -> ModuleType:
    """The `inputs` library, mended so that it can look for pads more than once.

    Raises ScopeError where it cannot work: it looks for devices while it is imported and trips over some machines.
    """
    if sys.platform == "darwin":
        raise ScopeError("--gamepad inputs finds no pads on macOS: use --gamepad sdl.")
    try:
        library = importlib.import_module("inputs")
    except (ImportError, AttributeError, OSError, ValueError, RuntimeError) as error:
        raise ScopeError(f"the inputs library cannot start here ({error}): use --gamepad sdl.") from error
    mend_type_codes(library)
    return library


def mend_type_codes(library: ModuleType) -> None:
    """Make `EVENT_MAP`'s type codes a tuple. They are a generator, empty for every `DeviceManager` after the first."""
    type_codes = tuple((name, code) for code, name in library.EVENT_TYPES)
    event_map = tuple((key, type_codes if key == "type_codes" else table) for key, table in library.EVENT_MAP)
    vars(library)["EVENT_MAP"] = event_map


class InputsPads:
    """Every pad the library finds, now and later. `find` returns its `GamePad` objects; by default a fresh search."""

    def __init__(
        self,
        library: ModuleType | None = None,
        find: Callable[[], Iterable[Any]] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        ranges: Callable[[str], Ranges] | None = None,
    ) -> None:
        self._library = library or load_library()
        self._find = find or self._search
        self._clock = clock
        self._queue: queue.SimpleQueue[tuple[float, Device, Any] | RawEvent] = queue.SimpleQueue()
        self._ranges_of = ranges or axis_ranges
        self._ranges: dict[str, Ranges] = {}
        self._decoders: dict[str, XpadDecoder] = {}
        self._open: set[str] = set()
        self._refused: set[str] = set()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="inputs-watch", daemon=True).start()

    def read(self, events: Iterable[Any], t: float) -> list[RawEvent]:
        """What the pads did since the last call."""
        found: list[RawEvent] = []
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return found
            if isinstance(item, tuple):
                at, device, event = item
                found += self._decoders[device.key].feed(at, event.code, event.state)
                continue
            if isinstance(item, Plugged):
                windows = sys.platform == "win32"
                ranges = self._ranges[item.device.key]
                self._decoders[item.device.key] = XpadDecoder(item.device, windows=windows, ranges=ranges)
            found.append(item)

    def sample(self, t: float) -> list[RawStick]:
        """Where every stick stands."""
        return [stick for decoder in self._decoders.values() for stick in decoder.sample(t)]

    def close(self) -> None:
        """Stop looking and reading. A thread that waits for a pad ends with the pad's next event, or the program."""
        self._closed.set()

    def _search(self) -> Iterable[Any]:
        try:
            return self._library.DeviceManager().gamepads
        except (AttributeError, OSError, ValueError, RuntimeError):
            return ()  # the library trips over a device that is just coming or going: the next search is soon

    def _watch(self) -> None:
        while not self._closed.is_set():
            for pad in self._find():
                path = pad.get_char_device_path()
                if path not in self._open and path not in self._refused:
                    self._start(pad, path)
            self._closed.wait(RESCAN_SECONDS)

    def _start(self, pad: Any, path: str) -> None:
        device = Device(key=f"inputs:{path}", name=str(pad), guid="", backend="inputs")
        if os.path.exists(path) and not os.access(path, os.R_OK):
            self._refused.add(path)
            reason = (
                f"{device.name} may not be read by you: add yourself to the group that owns {path} and log in anew."
            )
            self._queue.put(Unusable(self._clock(), reason))
            return
        self._open.add(path)
        self._ranges[device.key] = self._ranges_of(path)
        self._queue.put(Plugged(self._clock(), device))
        threading.Thread(target=self._listen, args=(pad, device, path), name=f"inputs-{path}", daemon=True).start()

    def _listen(self, pad: Any, device: Device, path: str) -> None:
        unknown = (self._library.UnknownEventCode, self._library.UnknownEventType)
        while not self._closed.is_set():
            try:
                for event in next_events(pad):
                    self._queue.put((self._clock(), device, event))
            except unknown:
                continue
            except (OSError, self._library.UnpluggedError):
                break
        self._queue.put(Unplugged(self._clock(), device))
        self._open.discard(path)


def axis_ranges(path: str) -> Ranges:
    """What the device at `path` says of its axes; nothing where there is no such device to ask."""
    if sys.platform != "linux":
        return {}
    import fcntl

    found: dict[str, tuple[int, int]] = {}
    try:
        device = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return {}
    try:
        for name, axis in AXES.items():
            _, low, high, *_ = struct.unpack("6i", fcntl.ioctl(device, EVIOCGABS + axis, bytes(24)))
            if high > low:
                found[name] = (low, high)
    except OSError:
        return {}
    finally:
        os.close(device)
    return found


def next_events(pad: Any) -> list[Any]:
    """Wait for the pad's next events.

    On Windows the library's own `read` asks XInput in a loop without a pause, a whole core for nothing. Its two halves
    are private but have not changed since 2018; they are called here 250 times a second instead.
    """
    check = getattr(pad, "_GamePad__check_state", None) if sys.platform == "win32" else None
    if check is None:
        return list(pad.read())
    time.sleep(XINPUT_POLL_SECONDS)
    check()
    events: list[Any] = []
    while batch := pad._do_iter():
        events += batch
    return events

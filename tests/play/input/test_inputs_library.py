"""The `inputs` backend: the library itself reads a fake evdev device, a FIFO that carries kernel event records."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import threading
import time
import types

import inputs
import pytest

from scope_play.errors import ScopeError
from scope_play.play.input import inputs_library
from scope_play.play.input.bindings import ControllerMap
from scope_play.play.input.devices import Devices
from scope_play.play.input.inputs_library import InputsPads, axis_ranges, load_library, mend_type_codes, next_events
from scope_play.play.input.translator import Device, Plugged, RawButton, RawStick, RawTrigger, Unplugged, Unusable
from scope_play.play.input.xpad import XpadDecoder

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="evdev is Linux's")

SYN, KEY, ABS = 0, 1, 3
BTN_SOUTH, BTN_NORTH, BTN_TL = 0x130, 0x133, 0x136
ABS_X, ABS_Y, ABS_RZ, ABS_HAT0X = 0, 1, 5, 0x10


class FakePad:
    """A GamePad of the real library on a FIFO; `unplug` makes its next read fail like a real device's."""

    def __init__(self, folder, name="Microsoft X-Box 360 pad", number=7):
        self.fifo = folder / f"event{number}"
        os.mkfifo(self.fifo)
        self._write = os.open(self.fifo, os.O_RDWR)
        self._gone = False
        path = f"/dev/input/by-id/usb-Fake_{number}-event-joystick"
        self.pad = inputs.GamePad(inputs.devices, path, char_path_override=str(self.fifo))
        self.pad.name = name
        read = self.pad._get_data

        def get_data(size):
            data = read(size)
            if self._gone:
                raise OSError(errno.ENODEV, "No such device")
            return data

        self.pad._get_data = get_data

    def send(self, *records):
        """(type, code, value) records, then the report's end."""
        for kind, code, value in (*records, (SYN, 0, 0)):
            os.write(self._write, struct.pack("llHHi", 1, 0, kind, code, value))

    def unplug(self):
        self._gone = True
        self.send()


@pytest.fixture
def names(monkeypatch):
    """The library's look-ups of device names under /sys."""

    def redirected(path, *args, **kwargs):
        if str(path).startswith("/sys/class/input/"):
            return io.StringIO("Microsoft X-Box 360 pad\n")
        return open(path, *args, **kwargs)

    monkeypatch.setattr(inputs, "open", redirected, raising=False)


@pytest.fixture
def fake(tmp_path, names):
    return FakePad(tmp_path)


def collect(pads, until):
    """Read until the events so far satisfy `until`; what never comes is ended by the test's own time limit."""
    events = []
    while not until(events):
        events += pads.read((), 0.0)
        time.sleep(0.001)
    return events


def has(kind, count=1):
    return lambda events: sum(isinstance(event, kind) for event in events) >= count


@linux_only
def test_a_fake_evdev_pad_from_plug_to_unplug(fake):
    pads = InputsPads(inputs, find=lambda: [fake.pad], clock=lambda: 3.0)
    (plugged,) = collect(pads, has(Plugged))
    assert (plugged.device.name, plugged.device.backend) == ("Microsoft X-Box 360 pad", "inputs")
    fake.send((KEY, BTN_SOUTH, 1))
    fake.send((KEY, BTN_SOUTH, 0))
    edges = collect(pads, has(RawButton, 2))
    assert [(event.t, event.control, event.pressed) for event in edges] == [(3.0, "a", True), (3.0, "a", False)]
    fake.send((KEY, BTN_NORTH, 1), (ABS, ABS_RZ, 255), (ABS, ABS_HAT0X, -1))
    events = collect(pads, has(RawButton, 2))
    assert [event.control for event in events] == ["x", "right_trigger", "dpad_left"]
    fake.send((ABS, ABS_X, 32767), (ABS, ABS_Y, -32768))
    assert collect(pads, has(RawStick)) == [RawStick(3.0, plugged.device, "left", 1.0, -1.0)]
    fake.send((KEY, 0x2FE, 1), (99, 1, 1), (KEY, BTN_TL, 1))
    assert [event.control for event in collect(pads, has(RawButton))] == ["left_shoulder"]
    fake.unplug()
    assert collect(pads, has(Unplugged)) == [Unplugged(3.0, plugged.device)]
    pads.close()


@linux_only
def test_an_unplugged_pad_that_comes_back_is_found_again_and_a_second_one_too(tmp_path, names, monkeypatch):
    monkeypatch.setattr(inputs_library, "RESCAN_SECONDS", 0.01)
    present = [FakePad(tmp_path, "One", 1)]
    pads = InputsPads(inputs, find=lambda: [fake.pad for fake in present])
    collect(pads, has(Plugged))
    gone = present.pop()
    gone.unplug()
    collect(pads, has(Unplugged))
    gone.fifo.unlink()
    present += [FakePad(tmp_path, "One", 1), FakePad(tmp_path, "Two", 2)]
    back = [event.device.name for event in collect(pads, has(Plugged, 2))]
    assert back == ["One", "Two"]
    present[1].send((KEY, BTN_SOUTH, 1))
    (event,) = collect(pads, has(RawButton))
    assert event.device.name == "Two"
    assert pads.read((), 0.0) == []
    pads.close()


@linux_only
def test_it_plays_through_the_hub_and_its_loss_pauses(fake):
    pads = InputsPads(inputs, find=lambda: [fake.pad])
    devices, seen = Devices(pads, ControllerMap()), []
    fake.send((KEY, BTN_SOUTH, 1))
    fake.send((ABS, ABS_X, 32767))
    while not (devices.state.south and devices.state.left[0] > 0.0):
        seen += devices.read((), 0.0)
    assert devices.state.left == (1.0, 0.0)
    assert devices.resume(0.0)[0].x == 1.0
    fake.unplug()
    while not any(getattr(item, "pause", False) for item in seen):
        seen += devices.read((), 0.0)
    assert devices.active.backend == "keyboard"
    devices.close()


@linux_only
def test_a_pad_that_may_not_be_read_is_named_once_and_not_opened(fake, monkeypatch):
    monkeypatch.setattr(inputs_library, "RESCAN_SECONDS", 0.01)
    monkeypatch.setattr(inputs_library.os, "access", lambda path, mode: False)
    looks = []
    pads = InputsPads(inputs, find=lambda: looks.append(1) or [fake.pad])
    (unusable,) = collect(pads, has(Unusable))
    assert unusable.reason.startswith("Microsoft X-Box 360 pad may not be read by you")
    before = len(looks)
    collect(pads, lambda events: len(looks) > before + 2)
    assert pads.read((), 0.0) == []
    pads.close()


def test_every_search_after_the_first_works_once_the_type_codes_are_mended():
    mend_type_codes(inputs)
    for _ in range(3):
        assert dict(inputs.EVENT_MAP)["type_codes"]
        assert {key: dict(table) for key, table in inputs.EVENT_MAP}["type_codes"]["Key"] == KEY


def test_a_machine_the_library_cannot_start_on_gets_a_sentence(monkeypatch):
    def trips(name):
        raise AttributeError("'NoneType' object has no attribute 'get_char_device_path'")

    monkeypatch.setattr(inputs_library.importlib, "import_module", trips)
    with pytest.raises(ScopeError, match=r"cannot start here .*: use --gamepad sdl"):
        load_library()
    monkeypatch.setattr(inputs_library.sys, "platform", "darwin")
    with pytest.raises(ScopeError, match="no pads on macOS"):
        load_library()


def test_a_search_that_trips_finds_nothing_and_is_tried_again(monkeypatch):
    monkeypatch.setattr(inputs_library, "RESCAN_SECONDS", 0.01)
    searched = threading.Semaphore(0)

    def trips():
        searched.release()
        raise AttributeError("leds")

    library = types.SimpleNamespace(
        DeviceManager=trips, UnknownEventCode=KeyError, UnknownEventType=KeyError, UnpluggedError=RuntimeError
    )
    pads = InputsPads(library)
    assert all(searched.acquire(timeout=10.0) for _ in range(3))
    assert pads.read((), 0.0) == []
    pads.close()


def test_on_windows_xinput_is_asked_with_a_pause(monkeypatch):
    slept = []
    monkeypatch.setattr(inputs_library.sys, "platform", "win32")
    monkeypatch.setattr(inputs_library.time, "sleep", slept.append)
    batches = [["a", "b"], ["c"], None]
    pad = types.SimpleNamespace(_GamePad__check_state=lambda: None, _do_iter=lambda: batches.pop(0))
    assert next_events(pad) == ["a", "b", "c"]
    assert slept == [inputs_library.XINPUT_POLL_SECONDS]
    assert next_events(types.SimpleNamespace(read=lambda: ["d"])) == ["d"]


# ---- what the codes mean

DEVICE = Device("inputs:x", "Microsoft X-Box 360 pad", "", "inputs")


def fed(decoder, *events):
    return [raw for code, value in events for raw in decoder.feed(0.0, code, value)]


@pytest.mark.parametrize(
    ("windows", "code", "control"),
    [
        (False, "BTN_NORTH", "x"),
        (False, "BTN_WEST", "y"),
        (False, "BTN_SELECT", "back"),
        (False, "BTN_START", "start"),
        (True, "BTN_WEST", "x"),
        (True, "BTN_NORTH", "y"),
        (True, "BTN_START", "back"),
        (True, "BTN_SELECT", "start"),
        (False, "BTN_SOUTH", "a"),
        (True, "BTN_SOUTH", "a"),
        (True, "BTN_THUMBR", "right_stick"),
    ],
)
def test_buttons_by_system(windows, code, control):
    (event,) = fed(XpadDecoder(DEVICE, windows=windows), (code, 1))
    assert event == RawButton(0.0, DEVICE, control, True)


@pytest.mark.parametrize(("windows", "up"), [(False, -32768), (True, 32767)])
def test_up_is_negative_everywhere(windows, up):
    (event,) = fed(XpadDecoder(DEVICE, windows=windows), ("ABS_RY", up), ("SYN_REPORT", 0))
    assert event == RawStick(0.0, DEVICE, "right", 0.0, -1.0)


def test_both_axes_of_a_report_come_together_and_none_without_a_move():
    decoder = XpadDecoder(DEVICE, windows=False)
    (event,) = fed(decoder, ("ABS_X", 16384), ("ABS_Y", 32767), ("SYN_REPORT", 0), ("SYN_REPORT", 0))
    assert (event.x, event.y) == (pytest.approx(0.5, abs=1e-3), 1.0)
    assert [stick.control for stick in decoder.sample(0.0)] == ["left", "right"]


@pytest.mark.parametrize(
    ("name", "values", "shaped"),
    [
        ("Microsoft X-Box 360 pad", (255, 51, 0), (1.0, 0.2, 0.0)),
        ("Microsoft Xbox Series S|X Controller", (1023, 102, 0), (1.0, 0.1, 0.0)),
        ("Microsoft X-Box One S pad", (255,), (0.25,)),
        ("Generic pad", (255, 1023, 255), (1.0, 1.0, 0.25)),
    ],
)
def test_trigger_ranges_by_name_and_by_what_was_seen(name, values, shaped):
    decoder = XpadDecoder(Device("k", name, "", "inputs"), windows=False)
    events = fed(decoder, *(("ABS_Z", value) for value in values))
    assert all(isinstance(event, RawTrigger) and event.control == "left_trigger" for event in events)
    assert [event.value for event in events] == pytest.approx(shaped, abs=1e-3)


def test_the_d_pad_releases_one_side_when_it_goes_to_the_other():
    events = fed(XpadDecoder(DEVICE, windows=False), *(("ABS_HAT0Y", value) for value in (-1, 1, 0, 0)))
    assert [(event.control, event.pressed) for event in events] == [
        ("dpad_up", True),
        ("dpad_up", False),
        ("dpad_down", True),
        ("dpad_down", False),
    ]


def test_codes_no_xbox_pad_has_mean_nothing():
    assert fed(XpadDecoder(DEVICE, windows=False), ("ABS_MT_SLOT", 3), ("BTN_TRIGGER_HAPPY40", 1), ("KEY_A", 1)) == []


# ---- other ranges, other axes

BLUETOOTH = {
    **dict.fromkeys(("ABS_X", "ABS_Y", "ABS_Z", "ABS_RZ"), (0, 65535)),
    **dict.fromkeys(("ABS_GAS", "ABS_BRAKE"), (0, 1023)),
}
PLAYSTATION = dict.fromkeys(("ABS_X", "ABS_Y", "ABS_RX", "ABS_RY", "ABS_Z", "ABS_RZ"), (0, 255))


@linux_only
def test_an_xbox_pad_over_bluetooth_rests_and_moves_with_its_own_axes(fake):
    pads = InputsPads(inputs, find=lambda: [fake.pad], ranges=lambda path: BLUETOOTH)
    devices = Devices(pads, ControllerMap())
    rest = [(ABS, axis, 32768) for axis in (ABS_X, ABS_Y, 2, ABS_RZ)]
    seen = []
    for report, reached in (
        ([*rest, (KEY, BTN_SOUTH, 1)], lambda state: state.south),
        ([(ABS, 2, 65535), (ABS, 9, 1023)], lambda state: state.right_trigger and state.right[0] > 0.99),
        ([*rest, (ABS, 9, 0), (ABS, 10, 1023), (ABS, ABS_Y, 0)], lambda state: state.left_trigger and state.left[1]),
    ):
        fake.send(*report)
        while not reached(devices.state):
            devices.read((), 0.0)
        seen.append((*devices.state.buttons[:3], *devices.state.left, *devices.state.right))
    assert seen[0] == (False, False, True, 0.0, 0.0, 0.0, 0.0)
    assert seen[1] == pytest.approx((True, False, True, 0.0, 0.0, 1.0, 0.0), abs=1e-3)
    assert seen[2] == pytest.approx((False, True, True, 0.0, -1.0, 0.0, 0.0), abs=1e-3)
    devices.close()


@pytest.mark.parametrize("ranges", [BLUETOOTH, PLAYSTATION, {"ABS_X": (-128, 127), "ABS_Y": (-128, 127)}])
def test_every_stick_is_in_the_middle_of_its_range_and_reaches_its_ends(ranges):
    decoder = XpadDecoder(DEVICE, windows=False, ranges=ranges)
    for axis, sign in ((0, -1.0), (1, 1.0)):
        fed(decoder, *((code, limits[axis]) for code, limits in ranges.items() if code in decoder._axes))
        assert {value for stick in decoder.sample(0.0) for value in (stick.x, stick.y)} <= {sign, 0.0}
        fed(decoder, *((code, sum(limits) // 2) for code, limits in ranges.items() if code in decoder._axes))
        assert all(abs(value) < 0.01 for stick in decoder.sample(0.0) for value in (stick.x, stick.y))


def test_a_playstation_pads_triggers_stay_triggers():
    (event,) = fed(XpadDecoder(DEVICE, windows=False, ranges=PLAYSTATION), ("ABS_Z", 51))
    assert event == RawTrigger(0.0, DEVICE, "left_trigger", 0.2)


@linux_only
def test_the_ranges_are_the_devices_own(tmp_path, monkeypatch):
    import fcntl

    (tmp_path / "event3").write_bytes(b"")
    asked = {0x80184540: (0, 65535), 0x80184549: (0, 1023)}
    monkeypatch.setattr(
        fcntl, "ioctl", lambda file, request, data: struct.pack("6i", 7, *asked.get(request, (0, 0)), 0, 0, 0)
    )
    assert axis_ranges(str(tmp_path / "event3")) == {"ABS_X": (0, 65535), "ABS_GAS": (0, 1023)}
    monkeypatch.undo()
    assert axis_ranges(str(tmp_path / "event3")) == {}
    assert axis_ranges(str(tmp_path / "none")) == {}

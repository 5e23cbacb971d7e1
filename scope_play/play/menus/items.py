"""What each screen offers: the start screen's form, and the items of every menu."""

from __future__ import annotations

from dataclasses import dataclass

from scope_play.loading.request import display_name
from scope_play.play.menus.menu import Item, Kind
from scope_play.play.menus.scenes import OWN, Scene
from scope_play.play.settings import Settings
from scope_play.session.interfaces import WorldSpec


@dataclass(frozen=True)
class Form:
    """What the start screen has collected. `picture` is the player's own image, used instead of the scene."""

    models: tuple[str, ...] = ("nano",)
    model: str = "nano"
    scenes: tuple[Scene, ...] = (OWN,)
    scene: int = 0
    picture: str = ""
    prompt: str = ""
    seed: int = 0
    record: bool = False


def start_items(form: Form, spec: WorldSpec | None, waiting: str) -> list[Item]:
    """`waiting` is why play cannot begin at once; it can be chosen all the same."""
    has_text = bool(spec and spec.has_text)
    scene = form.scenes[form.scene].name if form.scenes else ""
    prompt = form.prompt or ("write one" if has_text else "this model takes none")
    return [
        Item("play", "Play", waiting),
        Item("model", "Model", display_name(form.model), Kind.CHOICE if len(form.models) > 1 else Kind.ACTION),
        Item("scene", "Scene", "your own picture" if form.picture else scene, Kind.CHOICE),
        Item("picture", "Own picture", form.picture or "type or drop a file", Kind.TEXT),
        Item("prompt", "Prompt", prompt, Kind.TEXT, enabled=has_text),
        Item("seed", "Seed", str(form.seed), Kind.CHOICE),
        Item("record", "Record", "on" if form.record else "off", Kind.CHOICE),
        Item("controls", "Controls"),
        Item("settings", "Settings"),
        Item("quit", "Quit"),
    ]


def pause_items(spec: WorldSpec | None, recording: bool) -> list[Item]:
    return [
        Item("resume", "Resume"),
        Item("rewind", "Rewind"),
        Item("restart", "Restart"),
        *([Item("prompt", "Prompt", kind=Kind.TEXT)] if spec and spec.has_text else []),
        Item("record", "Stop recording" if recording else "Start recording"),
        Item("screenshot", "Screenshot"),
        Item("controls", "Controls"),
        Item("settings", "Settings"),
        Item("leave", "Back to the start screen"),
        Item("quit", "Quit"),
    ]


def settings_items(settings: Settings) -> list[Item]:
    def switch(value: bool) -> str:
        return "on" if value else "off"

    return [
        Item("show_stats", "Speed and delay", switch(settings.show_stats), Kind.CHOICE),
        Item("show_pad", "Controller overlay", switch(settings.show_pad), Kind.CHOICE),
        Item("mode", "Input", settings.mode, Kind.CHOICE),
        Item("gamepad", "Pads read by", settings.gamepad, Kind.CHOICE),
        *(Item(key, name, stream_value(settings, key), Kind.CHOICE) for key, name in STREAM_ITEMS.items()),
        Item("fullscreen", "Fullscreen", switch(settings.fullscreen), Kind.CHOICE),
        Item("smooth", "Smooth picture", switch(settings.smooth), Kind.CHOICE),
        Item("back", "Back"),
    ]


STREAM_ITEMS = {
    "steps": "Denoising steps",
    "guidance": "Prompt guidance",
    "action_guidance": "Pad guidance",
    "stream_mode": "Remembering",
    "window": "Window",
    "shift": "Shift",
    "chunk": "Chunk",
}


def stream_value(settings: Settings, key: str) -> str:
    """A number as it is shown; 0 and "" are as the model's weights say."""
    value = getattr(settings, key)
    return (value if isinstance(value, str) else f"{value:g}") if value else "the model's"


SETTING_NOTES: dict[str, str] = {
    "steps": "Passes a chunk: fewer are faster and coarser. From the next chunk on.",
    "guidance": "How strongly the prompt acts; 1 is off and twice as fast.",
    "action_guidance": "How strongly the pad acts; 1 is off and faster.",
    "stream_mode": "cached keeps keys and values; window runs what was seen again: closer to training, slower.",
    "window": "Latents remembered, of four frames each.",
    "shift": "Larger spends more passes at high noise.",
    "chunk": "Latents made together. When the model is loaded again.",
    "show_stats": "Frames a second, and where the time between hand and eye goes. F1 in the game.",
    "show_pad": "What you hold, as the model is given it. F2 in the game.",
    "exact": "Every frame follows what you did in its own twentieth of a second.",
    "responsive": "All frames of a chunk follow what you hold when it is begun: less delay, coarser.",
    "sdl": "Any controller, plugged in at any time.",
    "inputs": "Xbox pads, read without SDL.",
    "keyboard": "Pads are left alone.",
    "fullscreen": "F11 in the game.",
    "smooth": "Off shows the model's own pixels.",
}


def setting_note(settings: Settings, key: str) -> str:
    """What the setting in focus is for; of a choice, what its present value means."""
    value = getattr(settings, key) if key in ("mode", "gamepad") else key
    return SETTING_NOTES.get(value, "")

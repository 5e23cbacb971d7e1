"""What a choice or a line of text on the start screen makes of its form."""

from __future__ import annotations

from dataclasses import replace

from scope_play.errors import ScopeError
from scope_play.files import place
from scope_play.play.menus.items import Form
from scope_play.play.menus.menu import Chosen
from scope_play.play.menus.scenes import preview
from scope_play.play.menus.textbox import TextBox

SEED_LIMIT = 1_000_000


def turned_form(form: Form, chosen: Chosen) -> Form:
    """The form with the next or the previous value of a choice: of the model, the scene, the seed, or recording."""
    step = chosen.step or 1
    match chosen.key:
        case "model":
            return replace(form, model=form.models[(form.models.index(form.model) + step) % len(form.models)])
        case "scene":
            # An own picture steps aside first.
            scene = form.scene if form.picture else (form.scene + step) % len(form.scenes)
            return replace(form, scene=scene, picture="")
        case "seed":
            return replace(form, seed=(form.seed + step) % SEED_LIMIT)
        case "record":
            return replace(form, record=not form.record)
    raise ValueError(f"{chosen.key} is not a choice of the start screen")


def line_for(form: Form, key: str) -> TextBox | None:
    """The line in which `key` is written; None if it is nothing to write."""
    match key:
        case "picture":
            return TextBox(key, "Path of a picture", form.picture)
        case "prompt":
            return TextBox(key, "Prompt", form.prompt)
        case "seed":
            return TextBox(key, "Seed", str(form.seed), row=0)
    return None


def with_picture(form: Form, path: str) -> Form:
    """Starting from the player's own picture, or, for an empty path, from the scene again."""
    if path and preview(place(path)) is None:
        raise ScopeError(f"{path} is not a picture that can be read; choose a PNG or JPEG file.")
    return replace(form, picture=path)


def with_seed(form: Form, text: str) -> Form:
    if not (text.isdecimal() and len(text) < len(str(SEED_LIMIT))):
        raise ScopeError(f"the seed {text!r} is not a whole number below {SEED_LIMIT}; write digits only.")
    return replace(form, seed=int(text))

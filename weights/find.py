"""Where the parts of a model lie: in its own folder, in one that the user names, or where other programs keep them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scope_play.errors import ScopeError
from scope_play.weights.catalog import CATALOG
from scope_play.weights.download import checkpoint_folder, hub_snapshots
from scope_play.weights.jsons import read_json_object
from scope_play.weights.recognise import Part, recognise
from scope_play.weights.sources import SafetensorsSource, Source, open_source
from scope_play.weights.tokenizer import tokenizer_files

VAE_FILE = "Wan2.2_VAE.pth"
TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TOKENIZER = "google/umt5-xxl"
SINGLE = "SCOPE.safetensors"
INDEX = "model.safetensors.index.json"
RELEASED = {"vae": VAE_FILE, "text_encoder": TEXT_FILE}
SUBFOLDERS = ("", "vae", "text_encoder", "text_encoders", "split_files/vae", "split_files/text_encoders")
TOKENIZERS = (TOKENIZER, "tokenizer", "google--umt5-xxl", "")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
HUB = ("Wan-AI/Wan2.2-TI2V-5B", "Wan-AI/Wan2.2-TI2V-5B-Diffusers", "Comfy-Org/Wan_2.2_ComfyUI_Repackaged")
_SHARD = re.compile(r"(.+)-(\d+)-of-(\d+)\.safetensors")
_INDEX = ".safetensors.index.json"


@dataclass
class Search:
    """What was found on the way, to name it when a part is nowhere."""

    places: Sequence[Path]
    refused: list[str] = field(default_factory=list)

    def part(self, kind: str) -> Part | None:
        """The first of its kind; the released file's name comes first in each place.

        Raises ScopeError when a file of that very name is damaged.
        """
        for place in self.places:
            released = place / RELEASED[kind]
            for source in ([open_source(released)] if released.is_file() else []) + self._sources(place):
                found = self._look(source, strict=source.path == released)
                if found is not None and found.kind == kind:
                    return found
        return None

    def tokenizer(self) -> Path | None:
        folders = (place / name for place in self.places for name in TOKENIZERS)
        return next((folder for folder in folders if tokenizer_files(folder)), None)

    def _sources(self, place: Path) -> list[Source]:
        try:
            return list(sources_in(place))
        except ScopeError as error:  # shards of something else; the model's own were looked at before
            self.refused.append(str(error))
            return []

    def _look(self, source: Source, *, strict: bool) -> Part | None:
        try:
            found = recognise(source)
        except ScopeError as error:
            if strict:
                raise
            self.refused.append(str(error))
            return None
        if isinstance(found, str):
            self.refused.append(f"{source.path} is {found}")
            return None
        return found


def search_places(folder: Path, wan: Path | None) -> list[Path]:
    """Folders to look for a model's autoencoder, text encoder and tokenizer in, the nearest first."""
    roots = [folder, *([] if wan is None else [wan]), *usual_places()]
    return [place for place in dict.fromkeys(root / sub for root in roots for sub in SUBFOLDERS) if place.is_dir()]


def usual_places() -> list[Path]:
    """Where downloads of this project, the Hub's cache, ModelScope, DiffSynth and ComfyUI keep files of Wan2.2."""
    home = Path(os.path.expanduser("~"))
    known = [checkpoint_folder(entry.name) for entry in CATALOG.values() if entry.repository is not None]
    hub = [snapshot for name in HUB for snapshot in hub_snapshots(name)]
    modelscope = [
        home / ".cache" / "modelscope" / "hub" / "models" / "Wan-AI" / "Wan2___2-TI2V-5B",
        Path("models").absolute() / "Wan-AI" / "Wan2.2-TI2V-5B",
    ]
    return [*known, *hub, *modelscope, home / "ComfyUI" / "models"]


def sources_in(place: Path) -> Iterator[Source]:
    """The weights in a folder: sharded ones as one, and every other file; the released names first of all."""
    try:
        files = sorted(file for file in place.iterdir() if file.suffix in SUFFIXES and file.is_file())
        indices = sorted(file for file in place.iterdir() if file.name.endswith(_INDEX))
    except OSError as error:
        raise ScopeError(f"{place} cannot be looked into ({error.strerror}); make it readable.") from error
    taken: set[Path] = set()
    for index in indices:
        source = indexed_source(place, index)
        taken |= set(source.files)
        yield source
    sharded: dict[str, list[Path]] = {}
    for file in files:
        match = _SHARD.fullmatch(file.name)
        if match and file not in taken:
            sharded.setdefault(match.group(1), []).append(file)
    for shards in sharded.values():
        _check_shard_numbers(place, shards)
        yield SafetensorsSource(place, shards)
    for file in files:
        if file not in taken and not _SHARD.fullmatch(file.name):
            yield open_source(file)


def find_dit(model: Path) -> Source:
    """SCOPE's transformer: `model` itself if that is a file, else what is in that folder, sharded or in one file.

    Raises ScopeError naming what is missing, or what the files there are instead.
    """
    if model.is_file():
        found = recognise(open_source(model))
        if isinstance(found, str):
            raise ScopeError(f"{model} is {found}; give SCOPE's transformer, or the folder that it is in.")
        return found.source
    refused = []
    for place in (model, model / "transformer"):
        for source in sources_in(place) if place.is_dir() else ():
            found = recognise(source)
            if isinstance(found, Part) and found.kind == "dit":
                return found.source
            if isinstance(found, str):
                refused.append(f"{source.path} is {found}")
    instead = f" ({'; '.join(refused)})" if refused else ""
    raise ScopeError(
        f"{model} lacks the DiT: neither model-*-of-*.safetensors nor {SINGLE} is there{instead}; "
        f"complete it with: scope-play download scope"
    )


def indexed_source(folder: Path, index: Path) -> Source:
    """The shards that an index names. Raises ScopeError when it and they disagree."""
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(file, str) for file in places.values()):
        raise ScopeError(f"{index}: 'weight_map' must map tensor names to file names; download it again.")
    names = sorted(set(places.values()))
    outside = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if outside:
        raise ScopeError(f"{index}: file name {outside[0][:80]!r} points out of the folder; download the index again.")
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise ScopeError(f"{folder} lacks {', '.join(absent)}; complete it with: scope-play download scope")
    for name in names:
        shard = SafetensorsSource(folder / name, [folder / name])
        listed = {tensor for tensor, file in places.items() if file == name}
        if differing := sorted(listed ^ shard.tensors.keys()):
            raise ScopeError(
                f"{folder / name} and {index.name} disagree about {len(differing)} tensors "
                f"({', '.join(differing[:3])}); download both again."
            )
    return SafetensorsSource(folder, [folder / name for name in names])


def _check_shard_numbers(folder: Path, shards: list[Path]) -> None:
    matches = [_SHARD.fullmatch(shard.name) for shard in shards]
    numbers = [(int(match.group(2)), int(match.group(3))) for match in matches if match]
    of = {total for _, total in numbers}
    absent = sorted(set(range(1, max(of) + 1)) - {number for number, _ in numbers}) if len(of) == 1 else []
    if len(of) > 1 or absent:
        fault = f"lacks DiT shard {absent[0]} of {max(of)}" if absent else "holds shards of different sets"
        raise ScopeError(f"{folder} {fault}; complete it with: scope-play download scope")

"""Types the README's lines for the real weights, one after the other, in an empty folder.

The Hub is one on the loopback interface, and what it serves are small networks of random numbers under the released
names: three shards, .pth files, and of the tokenizer only what the release has, a sentencepiece model. Lines that would
take long are made shorter by options after them; nothing else is changed.

    build/fresh/bin/python -P tests/neighbours/real_weights_user.py build/fresh
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SHORTER = {"generate": " --frames 5 --steps 1", "play": " --steps 1 --demo --seconds 0.5"}
ABSENT = ("transformers", "diffusers", "google.protobuf")
"""What would hide that a prompt needs it."""


def readme_lines() -> list[str]:
    text = (PROJECT / "README.md").read_text("utf-8")
    section = text[text.index("\n## The real weights\n") :]
    block = re.search(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert block is not None
    return [line.partition(" #")[0].rstrip() for line in block[1].splitlines()]


def main() -> None:
    environment = Path(sys.argv[1]).resolve()
    home = environment / "home"
    home.mkdir()
    user = {
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(home),
        "SDL_VIDEODRIVER": "dummy",
        "OMP_NUM_THREADS": "2",
    }
    user |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    install, *lines = readme_lines()
    assert install.startswith("pip install"), install
    subprocess.run(f"{install} --quiet", shell=True, check=True, cwd=PROJECT, env=user)
    importlib.invalidate_caches()
    for name in ABSENT:
        assert not is_there(name), f"{name} is installed, so this proves nothing"

    from scope_play.bench.loopback_hub import serving
    from scope_play.bench.published import SIZES, publish
    from scope_play.bench.rehearsal import REPOSITORY, write_inputs
    from scope_play.recording.video import count_frames
    from scope_play.weights.hashing import HashCache

    published = publish(environment / "published", SIZES["small"])
    tokenizer = published / "google" / "umt5-xxl"
    assert {file.name for file in tokenizer.iterdir()} == {"spiece.model"}
    for name in ("config.json", "tokenizer_config.json"):
        (tokenizer / name).write_text("{}")
    folder = environment / "typed"
    folder.mkdir()
    picture, rows = write_inputs(folder)
    picture.rename(folder / "room.png")
    rows.rename(folder / "run.parquet")
    with serving({REPOSITORY: published}, HashCache(environment / "hashes.json")) as hub:
        for line in lines:
            typed = line + SHORTER.get(line.split()[1], "")
            print(f"$ {typed}", flush=True)
            subprocess.run(typed, shell=True, check=True, cwd=folder, env=user | {"HF_ENDPOINT": hub.url})
    assert count_frames(folder / "run.mp4") == 5


def is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


if __name__ == "__main__":
    main()

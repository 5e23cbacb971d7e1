"""What somebody does who trains robots: reads the datasets of `make_datasets.py`, and trains ACT for ten steps.

Run by `.ci/neighbours lerobot`, with LeRobot's own torch. Arguments: the folder with `short` and `long`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from lerobot.datasets.lerobot_dataset import LeRobotDataset

KEY = "observation.images.screen"
LOOKED_AT = 400


def read(folder: Path) -> None:
    """Every time in the dataset is a frame's of its video to LeRobot's tolerance, by its own sums; frames are decoded
    where those are largest, and here and there."""
    found = LeRobotDataset("local/" + folder.name, root=folder, video_backend="pyav")
    table = found.hf_dataset.with_format("numpy")
    times, episodes = np.array(table["timestamp"]), np.array(table["episode_index"])
    starts = np.array([episode[f"videos/{KEY}/from_timestamp"] for episode in found.meta.episodes])
    asked = (starts[episodes] + times).astype(np.float32).astype(np.float64)
    worst = np.abs(asked - np.round(asked * found.fps) / found.fps).max()
    assert worst < found.tolerance_s, worst
    wanted = np.unique(np.linspace(0, len(found) - 1, LOOKED_AT).astype(int))
    for index in wanted:
        assert found[int(index)][KEY].shape[0] == 3
    print(f"{folder.name}: {len(found)} frames, off by {worst:.1e} s of {found.tolerance_s:g}; {len(wanted)} decoded")


def train(folder: Path, out: Path) -> None:
    command = [
        str(Path(sys.executable).parent / "lerobot-train"),
        f"--dataset.repo_id=local/{folder.name}",
        f"--dataset.root={folder}",
        "--dataset.video_backend=pyav",
        "--policy.type=act",
        "--policy.device=cpu",
        "--policy.push_to_hub=false",
        "--policy.pretrained_backbone_weights=null",
        "--policy.chunk_size=8",
        "--policy.n_action_steps=8",
        "--policy.dim_model=64",
        "--policy.n_heads=4",
        "--policy.dim_feedforward=128",
        "--batch_size=2",
        "--num_workers=0",
        "--steps=10",
        "--log_freq=1",
        "--wandb.enable=false",
        f"--output_dir={out}",
    ]
    subprocess.run(command, check=True)
    assert list(out.rglob("model.safetensors"))
    print("ACT: ten steps")


if __name__ == "__main__":
    data = Path(sys.argv[1])
    for name in ("short", "long"):
        read(data / name)
    train(data / "short", data / "act")

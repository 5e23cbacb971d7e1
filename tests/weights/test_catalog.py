"""Known checkpoints, and the released names and shapes."""

from __future__ import annotations

import re

import pytest
import torch

from scope_play.errors import ScopeError
from scope_play.model.dit.config import SCOPE_5B
from scope_play.model.dit.dit import DiT
from scope_play.model.umt5.encoder import UMT5_XXL
from scope_play.model.wan_vae.config import WAN22_VAE
from scope_play.weights import find, shapes
from scope_play.weights.catalog import CATALOG, SCOPE, find_checkpoint
from scope_play.weights.checkpoint import build_on_meta
from scope_play.weights.sources import StoredTensor
from tests.helpers.golden import golden_json


def test_entries_are_well_formed() -> None:
    for name, entry in CATALOG.items():
        assert entry.name == name
        assert entry.licence
        assert len({file.path for file in entry.files}) == len(entry.files)
        for file in entry.files:
            assert not file.path.startswith(("/", ".."))
            assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert sum(file.nbytes or 0 for file in entry.files) <= entry.approximate_nbytes


def test_scope_lists_what_the_loader_needs() -> None:
    paths = {file.path for file in SCOPE.files}
    assert {find.INDEX, find.VAE_FILE, find.TEXT_FILE} <= paths
    assert any(path.startswith(find.TOKENIZER) for path in paths)


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(ScopeError, match=r"no checkpoint 'scop'; known are nano, scope, wan2\.2"):
        find_checkpoint("scop")


class Manifest:
    """A source with the released names and shapes and no data."""

    def __init__(self, name: str) -> None:
        self.path = name
        self.tensors = {
            entry["name"]: StoredTensor(tuple(entry["shape"]), torch.bfloat16)
            for entry in golden_json(f"manifests/{name}.json")
        }


def test_configs_are_read_off_the_released_shapes() -> None:
    assert shapes.dit_config(Manifest("scope_dit")) == SCOPE_5B
    assert shapes.vae_config(Manifest("wan22_vae")) == WAN22_VAE
    assert shapes.text_config(Manifest("umt5_xxl_encoder")) == UMT5_XXL


def test_dit_names_and_shapes_of_the_released_size() -> None:
    network = build_on_meta(lambda: DiT(SCOPE_5B))
    manifest = Manifest("scope_dit").tensors
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == {
        name: stored.shape for name, stored in manifest.items()
    }
    assert len(manifest) == 1575


def test_what_shapes_cannot_tell_is_named() -> None:
    source = Manifest("scope_dit")
    del source.tensors["time_embedding.0.weight"]
    with pytest.raises(ScopeError, match=r"tensor 'time_embedding\.0\.weight' is missing"):
        shapes.dit_config(source)
    source = Manifest("scope_dit")
    source.tensors["patch_embedding.weight"] = StoredTensor((130, 48, 1, 2, 2), torch.bfloat16)
    with pytest.raises(ScopeError, match="do not go together"):
        shapes.dit_config(source)

"""`mmae.MultiMAE` on a folder, and on a stand-in of the hub that the real client talks to over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard, ModelHubMixin
from safetensors.torch import load_file, save_file

import mmae
from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from tests.support.commands import run_command
from tests.support.fake_hub import FakeHub, Repository, fake_hub

CONFIG = ModelConfig(size="nano", decoder_dim=16, decoder_num_heads=2, decoder_depth=1)
STATS = {"aster": {"mean": [700.0, 5.0], "std": [900.0, 6.0]}}
NAME = "owner/model"


@pytest.fixture
def model() -> mmae.MultiMAE:
    return mmae.MultiMAE(CONFIG, band_stats=STATS, extra={"step": 3}, seed=5)


@pytest.fixture
def folder(model: mmae.MultiMAE, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_mixin_learns_of_the_class_whatever_deepspeed_has_left_of_torch_s_module() -> None:
    # After a ZeRO-3 engine, torch.nn.Module answers for new classes, and asks nobody behind it.
    order = mmae.MultiMAE.__mro__
    assert order.index(ModelHubMixin) < order.index(torch.nn.Module)


def test_a_folder_comes_back(model: mmae.MultiMAE, folder: Path, tmp_path: Path) -> None:
    again = mmae.MultiMAE.from_pretrained(folder)
    assert same(again, model)
    assert same(mmae.load_model(folder), model)
    assert not again.training
    assert (again.saved.band_stats, again.saved.extra) == (STATS, {"step": 3})
    again.save_pretrained(tmp_path / "again", model_card_kwargs={"license": "cc-by-4.0"})
    card = ModelCard.load(tmp_path / "again" / "README.md")
    assert card.data.to_dict()["license"] == "cc-by-4.0"
    third = mmae.MultiMAE.from_pretrained(str(tmp_path / "again"))
    assert third.generate_model_card().content.strip() == card.content.strip()
    assert mmae.load_encoder(tmp_path / "again").plan(["elevation"]).names == ("depth",)


def _drop(weights: dict[str, torch.Tensor]) -> None:
    del weights["encoder.blocks.0.mlp.fc1.bias"]


def _add(weights: dict[str, torch.Tensor]) -> None:
    weights["head.weight"] = torch.zeros(2)


def _cut(weights: dict[str, torch.Tensor]) -> None:
    weights["encoder.global_tokens"] = torch.zeros(2, 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [(_drop, "fc1.bias is missing"), (_add, "unexpected tensor head.weight"), (_cut, "global_tokens has shape")],
)
def test_other_weights_are_refused(change: Any, message: str, folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)
    with pytest.raises(InputError, match=message):
        mmae.MultiMAE.from_pretrained(folder)


def test_an_unknown_key_of_the_configuration_is_refused(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "auto_map": {}}))
    with pytest.raises(InputError, match="unknown key 'auto_map'"):
        mmae.MultiMAE.from_pretrained(folder)


def test_what_is_there_is_not_overwritten(model: mmae.MultiMAE, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="is not empty"):
        model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    for words, message in (
        ({"license": "My own!"}, "--license My own!"),
        ({"language": "en"}, "language is not known"),
    ):
        with pytest.raises(InputError, match=message):
            model.save_pretrained(folder.parent / "new", model_card_kwargs=words)
    assert not (folder.parent / "new").exists()


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    """A hub with a model of two commits: the first is named v1, and a pickle and code lie beside its weights."""
    with fake_hub() as hub:
        hub.repositories[NAME] = repository = Repository()
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        repository.refs["v1"] = repository.commit({**files, "pytorch_model.bin": b"\x80", "modeling.py": b"1/0"})
        mmae.MultiMAE(CONFIG, seed=6).save_pretrained(folder.parent / "other")
        repository.commit({path.name: path.read_bytes() for path in (folder.parent / "other").iterdir()})
        yield hub


def python(script: str, address: str, cwd: Path) -> str:
    """What a program prints whose hub is at this address; its cache is below `cwd`."""
    done = run_command(
        "python", "-W", "ignore", "-c", f"import mmae, torch\n{script}", cwd=cwd, HF_ENDPOINT=address,
        HF_HOME=str(cwd / "cache"), HF_TOKEN="hf_made_up", HF_HUB_DISABLE_PROGRESS_BARS="1",
        HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1",
    )  # fmt: skip
    assert done.status == 0, done.err
    return done.out


LOAD = """
from mmae.errors import InputError
one, two = mmae.MultiMAE.from_pretrained("owner/model", revision="v1"), mmae.load_encoder("owner/model").model
local = [mmae.load_model(name) for name in ("model", "other")]
for found, mine in zip((one, two), local):
    assert all(torch.equal(found.state_dict()[name], value) for name, value in mine.state_dict().items())
for name, revision in (("owner/none", None), ("owner/model", "v9")):
    try:
        mmae.MultiMAE.from_pretrained(name, revision=revision)
    except InputError as error:
        print(error)
"""
CACHED = """
for words in ({"local_files_only": True}, {}):
    mmae.MultiMAE.from_pretrained("owner/model", revision="v1", **words)
"""
UNREACHED = """
from mmae.errors import InputError
try:
    mmae.load_encoder("owner/other")
except InputError as error:
    print(error)
"""
PUSH = """
model = mmae.MultiMAE.from_pretrained("model")
print(model.push_to_hub("owner/new", model_card_kwargs={"license": "cc-by-4.0"}))
again = mmae.MultiMAE.from_pretrained("owner/new")
assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())
assert again.saved.extra == {"step": 3, "license": "cc-by-4.0"}
"""
NOWHERE = "http://127.0.0.1:9"


@pytest.mark.process
def test_the_hub_s_revisions_and_its_cache(hub: FakeHub, tmp_path: Path) -> None:
    # What the first loads fetch, the cache answers later.
    said = python(LOAD + CACHED, hub.url, tmp_path).splitlines()
    assert len(said) == 2
    assert said[0].startswith("owner/none is no folder here, and cannot be fetched from the hub: ")
    assert said[1].startswith("owner/model is no folder here, and cannot be fetched from the hub at revision 'v9': ")
    expected = [
        f"{sha}/{file}" for sha in hub.repositories[NAME].commits for file in ("config.json", "model.safetensors")
    ]
    assert sorted(hub.downloads) == sorted(expected)
    said = python(CACHED + UNREACHED, NOWHERE, tmp_path).splitlines()
    assert len(said) == 1
    assert said[0].startswith("owner/other is no folder here, and cannot be fetched from the hub: ")


@pytest.mark.process
def test_a_pushed_model_comes_back(hub: FakeHub, tmp_path: Path) -> None:
    address = python(PUSH, hub.url, tmp_path).strip()
    new = hub.repositories["owner/new"]
    assert address == f"{hub.url}/owner/new/commit/{new.refs['main']}"
    assert new.commits[new.refs["main"]].keys() == {"README.md", "config.json", "model.safetensors"}
    assert b"license: cc-by-4.0" in new.commits[new.refs["main"]]["README.md"]

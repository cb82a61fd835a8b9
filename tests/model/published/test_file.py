from __future__ import annotations

import argparse
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmae.config.schema import ModelConfig
from mmae.errors import InputError
from mmae.model.mmae import MultiMAE
from mmae.model.published.file import published_checkpoint, read_published
from mmae.variants import Variant
from tests.support.published_case import options, published_model, save_published


class Hostile:
    """Unpickled, it would run a command."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


@pytest.fixture
def weights(config: ModelConfig, variant: Variant) -> dict[str, Tensor]:
    return published_model(config, variant)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_published(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_and_options(is_zip: bool, weights: dict[str, Tensor], config: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint-3.pth"
    args = options(config)
    checkpoint = {"model": weights, "args": args, "epoch": 3, "optimizer": {"state": {0: {"step": torch.ones(())}}}}
    torch.save(checkpoint, path, _use_new_zipfile_serialization=is_zip)
    published = read_published(path)
    assert published.args == vars(args)
    assert published.epoch == 3
    assert published.log_vars is None
    assert list(published.weights) == list(weights)
    assert all(torch.equal(published.weights[name], weights[name]) for name in weights)


def test_options_in_a_plain_mapping(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": weights, "args": {"input_size": 56}}, tmp_path / "x.pth")
    assert read_published(tmp_path / "x.pth").args == {"input_size": 56}


def test_without_options(weights: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({"model": weights}, tmp_path / "x.pth")
    published = read_published(tmp_path / "x.pth")
    assert published.args == {}
    assert published.epoch is None


@pytest.mark.parametrize("place", ["model", "args", "optimizer", "inside args", "whole"])
@pytest.mark.parametrize("is_zip", [True, False])
def test_a_hostile_pickle_is_refused_and_not_run(place: str, is_zip: bool, config: ModelConfig, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "x.pth"
    hostile = Hostile(mark)
    checkpoint: Any = {"model": {}, "args": options(config), place: hostile}
    if place == "inside args":
        checkpoint = {"model": {}, "args": options(config, lr=hostile)}
    torch.save(hostile if place == "whole" else checkpoint, path, _use_new_zipfile_serialization=is_zip)
    message = refusal(path)
    assert "asks for posix.system" in message
    assert "nothing was run" in message
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_hostile_plain_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Hostile(mark), protocol=protocol))
    refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize("value", [Path("x"), torch.device("cpu"), torch.zeros(2), argparse.Namespace(a=1), [{1: 2j}]])
def test_options_are_plain(value: Any, tmp_path: Path) -> None:
    torch.save({"model": {}, "args": argparse.Namespace(odd=value)}, tmp_path / "x.pth")
    message = refusal(tmp_path / "x.pth")
    assert "args.odd" in message or "asks for" in message


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"state_dict": {}, "epoch": 1}, "no weights under 'model' .it holds: state_dict, epoch"),
        ([1], "it holds: list"),
        ({"model": torch.zeros(2)}, "no weights under 'model'"),
        ({"model": {"a": 1.5}}, "a under 'model' is a float, not a tensor"),
        ({"model": {3: torch.zeros(2)}}, "3 under 'model'"),
        (
            {"model": {"a": torch.zeros(2, dtype=torch.int64)}},
            r"a is int64 \(torch.strided\), but only dense float32, float16",
        ),
        ({"model": {"a": torch.zeros(2, dtype=torch.float64)}}, "a is float64"),
        ({"model": {"a": torch.eye(2).to_sparse()}}, "torch.sparse_coo"),
        ({"model": {}, "args": [1]}, "'args' is a list"),
        ({"model": {}, "args": {3: 1}}, "'args' holds 3, which is not the name of an option"),
        ({"model": {}, "args": {"a b": 1}}, "'args' holds 'a b', which is not the name of an option"),
        ({"model": {}, "loss_balancer": {"weights": torch.zeros(2)}}, "'loss_balancer' holds weights"),
        ({"model": {}, "loss_balancer": {"log_vars": torch.zeros(2, 2)}}, r"log_vars has shape \(2, 2\)"),
        ({"model": {}, "loss_balancer": {"log_vars": torch.tensor([torch.nan])}}, "finite"),
        ({"model": {}, "loss_balancer": {"log_vars": 3}}, "log_vars under 'model' is a int"),
    ],
)
def test_torch_saves_that_are_not_published_checkpoints_are_refused(
    checkpoint: Any, message: str, tmp_path: Path
) -> None:
    torch.save(checkpoint, tmp_path / "x.pth")
    with pytest.raises(InputError, match=message):
        read_published(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x80\x02", b"PK\x03\x04" + bytes(100)])
def test_files_that_are_not_torch_saves_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    assert "cannot be read as a torch save" in refusal(tmp_path / "x.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "is not a file" in refusal(tmp_path / "x.pth")
    assert "is not a file" in refusal(tmp_path)


def test_a_changed_byte_of_a_weight_is_seen(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = save_published(tmp_path / "x.pth", weights, None)
    content = bytearray(path.read_bytes())
    stored = weights["encoder.0.attn.qkv.weight"].numpy().tobytes()
    content[content.index(stored) + len(stored) // 2] ^= 1
    path.write_bytes(content)
    assert "cannot be read" in refusal(path)


def test_a_cut_file(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = save_published(tmp_path / "x.pth", weights, None)
    path.write_bytes(path.read_bytes()[:-1000])
    assert "cannot be read" in refusal(path)


LOG_VARS = [0.5, -0.25, 1e-7, 0.0, 3.0, -1.0]


@pytest.mark.parametrize("inside", [True, False])
def test_log_variances_of_the_balancer(inside: bool, weights: dict[str, Tensor], tmp_path: Path) -> None:
    log_vars = torch.tensor(LOG_VARS)
    if inside:
        path = save_published(tmp_path / "x.pth", {**weights, "loss_balancer.log_vars": log_vars}, None)
    else:
        path = save_published(tmp_path / "x.pth", weights, None, loss_balancer={"log_vars": log_vars})
    published = read_published(path)
    assert published.log_vars is not None
    assert torch.equal(torch.tensor(published.log_vars), log_vars)
    assert published.weights.keys() == weights.keys()


def test_a_balancer_that_learns_nothing(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = save_published(tmp_path / "x.pth", weights, None, loss_balancer={})
    assert read_published(path).log_vars is None


def test_a_written_file_is_read_back(config: ModelConfig, variant: Variant, tmp_path: Path) -> None:
    config = replace(config, in_domains=("semseg", "rgb"), num_encoded_tokens=5, alphas=(0.5, 2.0))
    state = MultiMAE(config, variant).state_dict()
    log_vars = dict(zip(config.outputs, LOG_VARS, strict=False))
    checkpoint = published_checkpoint(state, config, variant, log_vars, 7)
    torch.save(checkpoint, tmp_path / "x.pth")
    published = read_published(tmp_path / "x.pth")
    assert published.epoch == 7
    assert published.log_vars == pytest.approx(LOG_VARS)
    assert published.args["in_domains"] == ["semseg", "rgb"]
    assert published.args["num_heads"] == variant.num_heads
    assert all(torch.equal(published.weights[name], tensor) for name, tensor in checkpoint["model"].items())


def test_a_written_file_has_plain_types_and_options_as_attributes(
    config: ModelConfig, variant: Variant, tmp_path: Path
) -> None:
    state = MultiMAE(config, variant).state_dict()
    torch.save(published_checkpoint(state, config, variant, {"rgb": 0.5}, 7), tmp_path / "x.pth")
    with torch.serialization.safe_globals([]):
        checkpoint = torch.load(tmp_path / "x.pth", weights_only=True)
    args = checkpoint["args"]
    assert (args.input_size, args.decoder_num_heads) == (config.input_size, config.decoder_num_heads)
    assert vars(args) == dict(args)
    assert vars(argparse.Namespace(**args)) == read_published(tmp_path / "x.pth").args

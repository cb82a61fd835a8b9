"""Damaged tiles met by some of the ranks of a real training, and real ranks that read every tile once."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing

from mmae.config.batch_split import split_global_batch
from mmae.config.schema import DataConfig
from mmae.data.loading.loader import train_batches
from mmae.data.sampling.shard_sets import ShardSet
from mmae.data.sampling.training_tiles import training_tiles
from mmae.data.shards.index import open_index
from mmae.distributed.process_group import leave
from tests.support.commands import SMALL, Command, train_words
from tests.support.group import Job, run_jobs
from tests.support.tiny_sets import damage, write_set

WORLD, GLOBAL_BATCH, STEPS = 2, 6, 8


def read_on_a_rank(rank: int, folder: Path, workers: int) -> None:
    """Read a run's steps as one rank of a group, and gather what the ranks read; one rank then reads on alone."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet{workers}", rank=rank, world_size=WORLD)
    config = DataConfig(weights=(1.0, 1.5), window=2, workers=workers)
    tiles = training_tiles([ShardSet(open_index(folder / name)) for name in ("one", "two")], config, seed=4)
    split = split_global_batch(GLOBAL_BATCH, 2, WORLD)
    seen = []
    for batch in train_batches(
        tiles, ("rgb", "depth"), config, seed=4, order=tiles.order(GLOBAL_BATCH), split=split, rank=rank,
        start_step=0, stop_step=STEPS, pin=False,
    ):  # fmt: skip
        gathered = [torch.empty_like(batch.key_B) for _ in range(WORLD)]
        dist.all_gather(gathered, batch.key_B)
        seen += torch.cat(gathered).tolist()
    if rank == 0:
        (folder / f"seen{workers}.json").write_text(json.dumps(seen))
    leave()


@pytest.mark.parametrize("workers", [0, 2])
def test_real_ranks_read_what_one_process_reads(tmp_path: Path, workers: int) -> None:
    write_set(tmp_path / "one", {"train": list(range(11))})
    write_set(tmp_path / "two", {"train": list(range(5, 14))})
    cast(Any, torch.multiprocessing).spawn(read_on_a_rank, (tmp_path, workers), nprocs=WORLD)
    seen = json.loads((tmp_path / f"seen{workers}.json").read_text())
    config = DataConfig(weights=(1.0, 1.5), window=2, workers=0)
    tiles = training_tiles([ShardSet(open_index(tmp_path / name)) for name in ("one", "two")], config, seed=4)
    alone = train_batches(
        tiles, ("rgb", "depth"), config, seed=4, order=tiles.order(GLOBAL_BATCH), split=split_global_batch(6, 6, 1),
        rank=0, start_step=0, stop_step=STEPS, pin=False,
    )  # fmt: skip
    assert seen == [key for batch in alone for key in batch.key_B.tolist()]
    steps = tiles.order(GLOBAL_BATCH).steps_per_epoch * GLOBAL_BATCH
    assert max(Counter(seen[:steps]).values()) == 1


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_ranks_go_on_without_damaged_tiles(synthetic_shards: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(synthetic_shards, shards)
    index = open_index(shards)
    places = training_tiles([ShardSet(index)], DataConfig(), 0).order(16)
    rows = index.row[index.positions("train")]
    first = rows[places.global_batch_at(0)[1]]
    second = rows[places.global_batch_at(1)[1]]
    # Of step 1 one tile, which rank 1 reads; of step 2 a whole micro-batch of rank 0.
    lost = [int(first[5]), *(int(row) for row in second[:4])]
    for row in lost:
        damage(index, row)
    val = int(index.row[index.positions("val")[0]])
    damage(index, val)
    words = [f"data.shards={shards}", *SMALL, "train.micro_batch=4", "train.max_steps=2", "checkpoint.every=100"]
    ended = run_jobs(
        [
            Job("skipping", "zero1", (*words, "data.on_damage=skip")),
            Job("sound", "zero1", (*words, f"data.shards={synthetic_shards}")),
        ],
        WORLD,
        tmp_path,
    )
    assert {job.status for job in ended.values()} == {0}, ended
    steps = [record for record in lines(tmp_path / "skipping" / "log.jsonl") if record["kind"] == "train"]
    assert [record["damaged_tiles"] for record in steps] == [1, 4]
    assert all(math.isfinite(loss) for record in steps for loss in record["losses"].values())
    assert [
        record["damaged_tiles"] for record in lines(tmp_path / "sound" / "log.jsonl") if "damaged_tiles" in record
    ] == [0, 0]
    # Each is named once, by the rank that met it: rank 1 the tile of step 1, rank 0 the rest.
    named = {rank: lines(tmp_path / "skipping" / f"damaged_rank{rank}.jsonl") for rank in range(WORLD)}
    assert [(each["step"], each["row"]) for each in named[1]] == [(1, lost[0])]
    assert [(each["step"], each["row"]) for each in named[0]] == [*((2, row) for row in lost[1:]), (2, val)]
    assert Path(named[1][0]["shard"]).name == "train-000000.tar"
    assert not list((tmp_path / "sound").glob("damaged*"))


@pytest.mark.slow
def test_damage_ends_a_run_that_is_to_raise(synthetic_shards: Path, tmp_path: Path, command: Command) -> None:
    shards = tmp_path / "shards"
    shutil.copytree(synthetic_shards, shards)
    index = open_index(shards)
    order = training_tiles([ShardSet(index)], DataConfig(), 0).order(16)
    row = int(index.row[index.positions("train")][order.global_batch_at(0)[1][0]])
    begin = damage(index, row)
    done = command(*train_words(shards, "run", "train.max_steps=2", "val.every=0", ranks=1))
    assert done.status != 0
    assert f"train-000000.tar: aster of row {row} at byte {begin} is damaged" in done.err
    assert "Traceback" not in done.err

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from mmae.config.schema import Config, DataConfig, ModelConfig, RunConfig, flatten
from mmae.engine.checkpoint.contents.train_state import TrainState
from mmae.publish.hub.training_facts import RECIPE_KEYS, training_facts
from mmae.run.folder import RunFolder
from mmae.run.parent import Parent, write_parent
from tests.support.tiny_sets import ROWS, write_set

CONFIG = Config(model=ModelConfig(size="nano"))


def test_what_a_run_knows(tmp_path: Path) -> None:
    index = write_set(tmp_path / "secret" / "shards", {"train": ROWS, "val": [1, 4]})
    folder = RunFolder(tmp_path / "secret" / "run")
    config = replace(CONFIG, data=DataConfig(shards=str(index.folder)), run=RunConfig(dir=str(folder.path)))
    folder.write_configs(config, {}, {})
    records = [{"kind": "start", "step": 0, "host": "secret"}]
    records += [{"kind": "val", "step": step, "losses": {"rgb": step / 10}} for step in (2, 4, 6)]
    records[1]["ema"] = {"losses": {"rgb": 0.15}}
    folder.log_file.write_text("".join(json.dumps(record) + "\n" for record in records))
    checkpoint = folder.checkpoints / "global_step5"
    checkpoint.mkdir(parents=True)
    state = TrainState(5, 80, 2, 1, "bf16", index.fingerprint, 1, {"mmae": "0.1.0"})
    (checkpoint / "state.json").write_text(json.dumps(asdict(state)))
    write_parent(folder.path, Parent("/secret/trunk", 3))
    facts = training_facts(folder, config, 5)
    assert facts["parent"] == {"run": "trunk", "step": 3}
    assert facts["validation"] == {"step": 4, "losses": {"rgb": 0.4}}
    assert training_facts(folder, config, 5, averaged=True)["validation"] == {"step": 2, "losses": {"rgb": 0.15}}
    assert (facts["tiles_seen"], facts["precision"], facts["versions"]) == (80, "bf16", {"mmae": "0.1.0"})
    assert facts["shards"] == [index.fingerprint]
    assert facts["sources"] == [
        {"name": "data.h5", "fingerprint": "ff", "shards": index.fingerprint, "tiles": {"train": 7, "val": 2}}
    ]
    assert facts["recipe"]["train.global_batch"] == CONFIG.train.global_batch
    text = json.dumps(facts)
    assert "secret" not in text
    assert str(tmp_path) not in text


def test_a_run_without_its_shards_and_log(tmp_path: Path) -> None:
    config = replace(CONFIG, data=DataConfig(shards=str(tmp_path / "gone")))
    assert training_facts(RunFolder(tmp_path / "run"), config, 5).keys() == {"recipe"}
    away = replace(CONFIG, data=DataConfig(shards="s3://secret/shards"))
    assert training_facts(RunFolder(tmp_path / "run"), away, 5).keys() == {"recipe"}


def test_recipe_keys_exist() -> None:
    assert set(RECIPE_KEYS) <= set(flatten(CONFIG))

from __future__ import annotations

from mmae.terminal.plurals import counted


def test_only_one_is_singular() -> None:
    assert [counted(count, "shard") for count in (0, 1, 2)] == ["0 shards", "1 shard", "2 shards"]
    assert [counted(count, "loss", "losses") for count in (1, 3)] == ["1 loss", "3 losses"]

"""Messages of other machines have known types, or are refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from mmae.doctor.agent.facts import Facts
from mmae.doctor.agent.messages import parse, parse_json
from mmae.doctor.agent.storage import OpCache, OpLock
from tests.support.surveyed_hosts import WELL, cache


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a": Infinity}', "[" * 100_000, "{'a': 1}", "1 2"])
def test_invalid_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


@pytest.mark.parametrize(
    "change",
    [{"gpus": "8"}, {"gpus": True}, {"gpus": None}, {"gpus": 8.0}, {"versions": []}, {"versions": {"torch": 2}},
     {"infiniband": "mlx5"}, {"infiniband": [1]}, {"more": 1}],
)  # fmt: skip
def test_other_kinds_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"another type|other fields"):
        parse(Facts, asdict(WELL) | change)


@pytest.mark.parametrize("content", [None, [], {}, "facts", {"gpus": 8}])
def test_records_with_wrong_fields_are_refused(content: object) -> None:
    with pytest.raises(ValueError, match="other fields"):
        parse(Facts, content)


def test_a_record_arrives_as_it_was_sent() -> None:
    sent = cache(OpLock("/cache/op/lock", 1.5, 2.0, False))
    assert parse(OpCache, parse_json(json.dumps(asdict(sent)))) == sent
    assert parse(Facts, asdict(WELL)) == WELL
    assert parse(float, 1) == 1.0
    with pytest.raises(ValueError, match="another type"):
        parse(int, True)

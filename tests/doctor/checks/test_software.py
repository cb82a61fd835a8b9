"""Each host alone, and compared with the first."""

from __future__ import annotations

from typing import Any

import pytest

from mmae.doctor.checks import software
from mmae.doctor.checks.findings import Finding, failed
from tests.support.surveyed_hosts import WELL, facts, host


def levels(findings: list[Finding]) -> dict[tuple[str, str], str]:
    return {(each.check, each.host): each.level for each in findings}


def test_a_healthy_host_needs_no_remedy() -> None:
    found = [*software.same_software([("a", WELL), ("b", WELL)]), software.devices(host("a", slots=8), WELL),
             *software.limits("a", WELL), *software.clocks([host("a"), host("b")])]  # fmt: skip
    assert {each.level for each in found} == {"ok"}
    assert not any(each.remedy for each in found)
    assert not failed(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "3.12.1"}, "python 3.12.1, elsewhere 3.11.9"),
        ({"versions": WELL.versions | {"torch": "2.7.0"}}, "torch 2.7.0, elsewhere 2.6.0"),
        ({"versions": WELL.versions | {"deepspeed": "absent"}}, "deepspeed missing"),
        ({"cuda": ""}, "CUDA absent, elsewhere 12.4"),
        ({"driver": "535.1"}, "driver 535.1"),
    ],
)
def test_the_odd_one_out_is_named_even_if_it_is_first(change: dict[str, Any], words: str) -> None:
    found = list(software.same_software([("odd", facts(**change)), ("b", WELL), ("c", WELL)]))
    wrong = [each for each in found if each.level == "FAIL"]
    assert [(each.check, each.host) for each in wrong] == [("software", "odd")]
    assert words in wrong[0].found


def test_other_code_and_missing_tools() -> None:
    found = list(software.same_software([("a", WELL), ("b", facts(code="0ld")), ("c", facts(missing_tools=["ninja"]))]))
    assert [(each.check, each.host, each.level) for each in found if each.level != "ok"] == [
        ("code", "b", "FAIL"), ("tools", "c", "warn")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("gpus", "slots", "torch", "level"),
    [(8, 8, 8, "ok"), (8, None, 8, "ok"), (8, 9, 8, "FAIL"), (8, 4, 8, "note"), (8, 8, 0, "FAIL"), (8, 8, -1, "FAIL"),
     (8, 8, 7, "FAIL"), (0, 2, None, "note"), (-1, 2, -1, "FAIL"), (0, None, None, "note")],
)  # fmt: skip
def test_slots_and_gpus(gpus: int, slots: int | None, torch: int | None, level: str) -> None:
    said = facts(gpus=gpus)
    assert software.devices(host("a", said, slots=slots, torch_gpus=torch), said).level == level


@pytest.mark.parametrize(
    ("given", "slots", "torch", "level", "words"),
    [
        ("4,5", None, 2, "ok", "2 of 8 GPUs given (CUDA_VISIBLE_DEVICES=4,5)"),
        ("4,5", 2, 2, "ok", "given (CUDA_VISIBLE_DEVICES=4,5), 2 slots"),
        ("4,5", 3, 2, "FAIL", "3 slots"),
        ("9", None, 0, "FAIL", "torch can use none"),
        ("GPU-8932f937", None, 1, "ok", "1 of 8 GPUs given"),
        ("", None, 0, "note", "0 of 8 GPUs given (CUDA_VISIBLE_DEVICES=): ranks will run on the CPU"),
        ("4,x", None, 1, "FAIL", "8 GPUs"),
    ],
)
def test_gpus_that_were_given(given: str, slots: int | None, torch: int, level: str, words: str) -> None:
    said = facts(environment={"CUDA_VISIBLE_DEVICES": given})
    found = software.devices(host("a", said, slots=slots, torch_gpus=torch), said)
    assert found.level == level
    assert words in found.found


@pytest.mark.parametrize(
    ("change", "check", "level"),
    [
        ({"open_files": -1}, "open files", "ok"),
        ({"open_files": 1023}, "open files", "FAIL"),
        ({"open_files": 1024}, "open files", "warn"),
        ({"open_files": 4096}, "open files", "ok"),
        ({"locked_memory": 65536}, "memlock", None),
        ({"locked_memory": 65536, "infiniband": ["mlx5_0"]}, "memlock", "FAIL"),
        ({"infiniband": ["mlx5_0"]}, "memlock", "ok"),
        ({"shm_size": 64 << 20, "shm_free": 64 << 20}, "/dev/shm", "FAIL"),
        ({"shm_free": 512 << 20}, "/dev/shm", "warn"),
        ({"shm_size": 0, "shm_free": 0}, "/dev/shm", "FAIL"),
    ],
)
def test_limits(change: dict[str, Any], check: str, level: str | None) -> None:
    assert levels(list(software.limits("a", facts(**change)))).get((check, "a")) == level


@pytest.mark.parametrize(
    ("ahead", "unsure", "level"),
    [(0.99, 0.0, "ok"), (1.01, 0.0, "warn"), (-1.01, 0.0, "warn"), (1.5, 0.6, "ok"), (-90.0, 2.0, "warn")],
)
def test_clocks_are_judged_beyond_the_round_trip(ahead: float, unsure: float, level: str) -> None:
    both = [host("a", ahead=5.0), host("b", ahead=5.0 + ahead, unsure=unsure)]
    assert [each.level for each in software.clocks(both)] == [level]


def test_a_host_that_does_not_answer() -> None:
    silent = host("a", silent=("ssh asks for a password", "ssh-copy-id a"))
    assert list(software.answering(silent)) == [Finding("ssh", "a", "FAIL", "ssh asks for a password", "ssh-copy-id a")]
    assert [each.level for each in software.answering(host("b"))] == ["ok"]

"""Which error of many ranks came first."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmae.launch.supervision.first_error import Errors, first_of_file, first_of_log


@pytest.mark.parametrize(
    ("lines", "first"),
    [
        ([], ""),
        (["mmae: rank 1 on a failed with E", "mmae: error: lost rank"], "mmae: error: lost rank"),
        (["mmae: rank 1 on a failed with E", "mmae: rank 0 on a failed with E"], "mmae: rank 1 on a failed with E"),
    ],
)
def test_the_first_error_of_local_ranks_is_returned_once(lines: list[str], first: str, tmp_path: Path) -> None:
    file = tmp_path / "errors"
    file.write_text("".join(f"{line}\n" for line in lines))
    assert first_of_file(file) == first
    assert first_of_file(file) == ""


def test_hosts_to_which_the_connection_broke_are_named() -> None:
    errors = Errors()
    for line in (
        "node-1: step 3",
        "pdsh@here: node-2: ssh exited with exit code 255",
        "pdsh@here: node-3: ssh exited with exit code 1",
        "pdsh@here: node-4: ssh exited with exit code 255",
        "node-1: mmae: error: lost rank: rank 1",
        "node-1: mmae: error: another",
    ):
        errors.read(line)
    assert errors.summary() == [
        "lost the connection to node-2 node-4",
        "the first error: node-1: mmae: error: lost rank: rank 1",
    ]
    assert Errors().summary() == []


def test_only_lines_after_the_last_restart_count() -> None:
    lines = ["mmae: error: old", "slurm.sbatch: lost a rank: restart 1 of 2 in 5 s", "mmae: rank 2 on a failed with E"]
    assert first_of_log(lines) == "rank 2 on a failed with E"
    assert first_of_log([*lines, "mmae: error: lost rank: rank 2", "mmae: error: x"]) == "lost rank: rank 2"
    assert first_of_log(["srun: error: task 1"]) == ""

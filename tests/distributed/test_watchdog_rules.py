"""Who is lost, from what ranks say: no processes, no clocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mmae.distributed.watchdog_rules import DEAD_SECONDS, LONG, LONG_FACTOR, PHASES, Pulse, Watch

TIMEOUT = 60.0


def pulse(rank: int, step: int = 5, phase: str = "step", machine: str = "a", **more: object) -> Pulse:
    return replace(Pulse(rank, f"node-{machine}", machine, 100 + rank, 7, step=step, phase=phase), **more)  # type: ignore[arg-type]


def watch(rank: int = 0, dead: tuple[int, ...] = ()) -> Watch:
    return Watch(rank, "a", TIMEOUT, lambda each: each.rank not in dead)


def beating(watching: Watch, pulses: list[Pulse], seconds: float) -> object:
    """All ranks beat for some seconds and stand still; the first verdict."""
    for second in range(int(seconds) + 1):
        seen = {each.rank: replace(each, beats=second) for each in pulses}
        if (verdict := watching.judge(seen, float(second))) is not None:
            return verdict
    return None


def test_ranks_that_move_on_are_left_alone() -> None:
    watching = watch()
    for second in range(1000):
        seen = {rank: pulse(rank, step=second // 50, beats=second, moves=second // 50) for rank in range(3)}
        assert watching.judge(seen, float(second)) is None


@pytest.mark.parametrize("phase", sorted(set(PHASES) - {"end"}))
def test_a_dead_process_of_this_machine_is_seen_at_once(phase: str) -> None:
    verdict = watch(dead=(1,)).judge({0: pulse(0), 1: pulse(1, phase=phase)}, 0.0)
    assert verdict is not None
    assert (verdict.ranks, verdict.status, verdict.hung) == ((1,), 4, False)
    assert verdict.line == "rank 1 on node-a is gone: its process has ended"


def test_ranks_leave_one_after_another_at_the_end() -> None:
    assert watch(dead=(1,)).judge({0: pulse(0, phase="end"), 1: pulse(1, phase="end")}, 0.0) is None


def test_process_ids_of_other_machines_say_nothing() -> None:
    assert watch(dead=(1,)).judge({0: pulse(0), 1: pulse(1, machine="b")}, 0.0) is None


@pytest.mark.parametrize(
    ("phase", "limit"), [("step", DEAD_SECONDS), ("data", DEAD_SECONDS), ("save", 5 * TIMEOUT), ("start", 5 * TIMEOUT)]
)
def test_a_silent_rank_is_lost(phase: str, limit: float) -> None:
    watching = watch()

    def seen(second: int) -> dict[int, Pulse]:
        return {0: pulse(0, beats=second, moves=second), 1: pulse(1, phase=phase, machine="b", beats=3)}

    for second in range(int(limit) + 1):
        assert watching.judge(seen(second), float(second)) is None
    verdict = watching.judge(seen(int(limit) + 1), limit + 1)
    assert verdict is not None
    assert verdict.line == f"rank 1 on node-b has not been heard of for {limit + 1:.0f} s"
    assert verdict.hung


def test_the_rank_that_is_behind_is_the_one_that_hangs() -> None:
    for behind in (pulse(2, step=4), pulse(2, phase="data")):
        verdict = beating(watch(), [pulse(0), pulse(1), behind], TIMEOUT + 2)
        assert verdict is not None
        assert verdict.ranks == (2,)  # type: ignore[attr-defined]
        assert f"has stood at step {behind.step} ({behind.phase}) for 61 s" in verdict.line  # type: ignore[attr-defined]


def test_nobody_hangs_before_the_timeout() -> None:
    assert beating(watch(), [pulse(0), pulse(1, step=4)], TIMEOUT) is None


@pytest.mark.parametrize("phase", sorted(LONG - {"end"}))
def test_who_waits_for_a_long_phase_of_another_is_not_hanging(phase: str) -> None:
    pulses = [pulse(0, step=6), pulse(1, step=6, phase=phase)]
    assert beating(watch(), pulses, TIMEOUT * LONG_FACTOR) is None
    assert beating(watch(), pulses, TIMEOUT * LONG_FACTOR + 2) is not None


def test_ranks_that_all_stand_still_are_named_together() -> None:
    verdict = beating(watch(), [pulse(0), pulse(1, machine="b")], TIMEOUT + 2)
    assert verdict is not None
    assert verdict.ranks == (0, 1)  # type: ignore[attr-defined]
    assert "every rank has stood at step 5 (step)" in verdict.line  # type: ignore[attr-defined]
    assert "node-a, node-b" in verdict.line  # type: ignore[attr-defined]


def test_a_rank_that_says_why_it_ends_gives_its_status_to_all() -> None:
    verdict = watch().judge({0: pulse(0), 1: pulse(1, failed=2, why="s/train-000001.tar: torn")}, 0.0)
    assert verdict is not None
    assert (verdict.ranks, verdict.status) == ((1,), 2)
    assert verdict.line == "rank 1 on node-a ended with status 2: s/train-000001.tar: torn"


def test_a_rank_does_not_accuse_itself() -> None:
    assert watch(rank=1, dead=(1,)).judge({0: pulse(0), 1: pulse(1, failed=1)}, 0.0) is None


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_who_rank_0_or_oneself_cannot_reach_is_lost_whatever_it_does(phase: str) -> None:
    far = pulse(2, phase=phase, machine="b")
    for seen_by in (0, 1):
        pulses = {0: pulse(0), 1: pulse(1), 2: far, 3: pulse(3, unreachable=[1])}
        assert watch(1).judge(pulses, 0.0) is None
        verdict = watch(1).judge({**pulses, seen_by: pulse(seen_by, unreachable=[2])}, 0.0)
        assert verdict is not None
        assert (verdict.ranks, verdict.status, verdict.hung) == ((2,), 4, False)
        assert verdict.line.startswith("rank 2 on node-b cannot be reached")


def test_only_the_silent_of_other_machines_are_looked_after() -> None:
    watching = watch()
    for second in range(12):
        seen = {0: pulse(0), 1: pulse(1), 2: pulse(2, machine="b", beats=second), 3: pulse(3, machine="b")}
        watching.judge(seen, float(second))
    assert [each.rank for each in watching.suspects(11.0, 8.0)] == [3]
    assert watching.suspects(11.0, 12.0) == []

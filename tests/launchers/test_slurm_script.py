"""The Slurm script with fakes of Slurm's commands: where ranks meet, signals, and when the job is queued again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.support.commands import Finished
from tests.support.faked_launch import end_record, start
from tests.support.paths import ROOT

SLURM = {
    "scontrol": """
case "$1 $2" in
  "show hostnames") printf 'n%s\\n' 7 8 ;;
  "show job") echo "JobId=41 JobName=mmae $SHOWN Nice=0" ;;
  "show node") echo "NodeName=$4 NodeAddr=10.9.8.7 NodeHostName=$4" ;;
  "show config") echo "KillWait                = 8 sec" ;;
  *) echo "$*" >>requeued ;;
esac""",
    "getent": "exit ${UNKNOWN:-0}",
    "srun": """
[[ " $* " == *" --export=ALL "*" bash "* ]] || exit 9
while [ "$1" != bash ]; do shift; done
export SLURM_PROCID=5 SLURM_LOCALID=1 SLURM_NTASKS=8 SLURM_STEP_TASKS_PER_NODE='4(x2)'
rank() { printf '%s\\n' $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $MASTER_ADDR $MASTER_PORT "$@"; }
export -f rank
"${@:1:2}" "${3/exec python -u -m mmae.train/rank}" "${@:4}" >seen
eval "${THEN:-}" """,
}


# As a real one shows them (22.05); the job's own script still runs then.
RUNNING = "JobState=RUNNING Reason=None Requeue=1 Restarts=0 PreemptTime=None"
CANCELLED = "JobState=COMPLETING Reason=None Requeue=1 Restarts=0 PreemptTime=None"
REQUEUED = "JobState=COMPLETING Reason=None Requeue=1 Restarts=1"
PREEMPTED = "JobState=COMPLETING Reason=None Requeue=1 Restarts=0 PreemptTime=2026-11-23T09:26:03"
OUT_OF_TIME = "JobState=COMPLETING Reason=TimeLimit Requeue=1 Restarts=0 PreemptTime=None"
SAVES = 'mkdir -p "run x/checkpoints/global_step3"'


def slurm(folder: Path, *words: str, **environment: str) -> Finished:
    job = {
        "SLURM_JOB_ID": "41",
        "SLURM_JOB_NODELIST": "n[7-8]",
        "MMAE_ROOT": str(ROOT),
        "SHOWN": RUNNING,
        **environment,
    }
    return start(folder, "slurm.sbatch", *words, "--config", "debug", "run.dir=run x", fakes=SLURM, **job)


# The task of an array that has the array's own number: `requeue 41` would queue every task again.
IN_ARRAY = {"SLURM_ARRAY_JOB_ID": "41", "SLURM_ARRAY_TASK_ID": "3"}


def was_requeued(folder: Path, number: str = "41") -> bool:
    return (folder / "requeued").exists() and (folder / "requeued").read_text() == f"requeue {number}\n"


def test_ranks_meet_on_slurms_first_host(tmp_path: Path) -> None:
    end_record(tmp_path / "run x", "finished", [])
    done = slurm(tmp_path)
    assert done.status == 0, done.err
    assert (tmp_path / "seen").read_text().splitlines() == [
        "5", "1", "8", "4", "n7", "20041", "--config", "debug", "run.dir=run x",
    ]  # fmt: skip
    assert not was_requeued(tmp_path)


def test_dry_run_under_slurm(tmp_path: Path) -> None:
    done = slurm(tmp_path, DRY_RUN="1")
    assert done.status == 0, done.err
    assert shlex.split(done.out)[-4:] == ["mmae", "--config", "debug", "run.dir=run x"]
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize(
    ("why", "reasons", "environment", "said"),
    [
        ("stopped", ["SIGUSR1"], {}, "stopped (SIGUSR1), not finished: queueing again"),
        ("stopped", ["SIGTERM"], {"SHOWN": PREEMPTED}, "queueing again"),
        ("stopped", ["SIGTERM"], {"SHOWN": OUT_OF_TIME, **IN_ARRAY}, "queueing again"),
        ("stopped", ["SIGTERM"], {"SHOWN": RUNNING.replace("ts=0", "ts=7"), "SLURM_RESTART_COUNT": "7"}, "queueing"),
        ("stopped", ["SIGTERM"], {"SHOWN": REQUEUED}, "not finished: Slurm has queued it again"),
        ("stopped", ["SIGTERM"], {"SHOWN": CANCELLED}, "not finished: cancelled, and not queued again"),
        ("stopped", ["SIGTERM"], {"SHOWN": RUNNING.replace("ue=1", "ue=0")}, "not queued again"),
        ("stopped", ["SIGUSR1"], {"SLURM_RESTART_COUNT": "2", "MMAE_REQUEUES": "2"}, "queued again 2 times already"),
        ("stopped", ["the end of the Slurm job"], {"THEN": f"{SAVES}; exit 0"}, "queueing again"),
        ("stopped", ["the end of the Slurm job"], {}, "nothing new is saved"),
        ("stopped", ["SIGUSR1", "the file stop"], {}, ""),
        ("stopped", ["SIGUSR1"], {"THEN": "exit 4"}, ""),
    ],
)
def test_it_queues_itself_again_when_the_scheduler_stopped_it(
    why: str, reasons: list[str], environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    end_record(tmp_path / "run x", why, reasons)
    done = slurm(tmp_path, **environment)
    assert done.status == int(environment.get("THEN", "exit 0").rpartition("exit ")[2]), done.err
    number = "41_3" if environment.keys() >= IN_ARRAY.keys() else "41"
    assert was_requeued(tmp_path, number) is said.endswith(("queueing again", "queueing"))
    assert said in done.err
    assert said or not done.err


@pytest.mark.parametrize("number", ["USR1", "TERM"])
def test_the_batch_shells_signal_reaches_the_ranks(number: str, tmp_path: Path) -> None:
    end_record(tmp_path / "run x", "stopped", ["SIGUSR1"])
    then = f"trap 'touch told; {SAVES}; exit 0' USR1; kill -{number} $PPID; "
    then += "for i in {1..2000}; do sleep 0.05; done; exit 9"
    done = slurm(tmp_path, THEN=then)
    assert done.status == 0, done.err
    assert "within 240 s" in done.err
    assert (tmp_path / "told").exists()
    assert was_requeued(tmp_path)


def test_where_slurm_ends_the_job_its_ranks_end_before_slurm_kills_the_script(tmp_path: Path) -> None:
    done = slurm(tmp_path, THEN="trap '' USR1; kill -TERM $PPID; sleep 200 & wait $!; wait $!", SHOWN=PREEMPTED)
    assert done.status == 128 + 9, done.err
    assert "the ranks did not stop within 6 s and are killed" in done.err
    assert was_requeued(tmp_path)


@pytest.mark.parametrize(("status", "again"), [(1, True), (2, False), (3, False), (4, True)])
def test_what_breaks_while_it_stops_does_not_keep_it_from_going_on(status: int, again: bool, tmp_path: Path) -> None:
    done = slurm(
        tmp_path, THEN=f"trap 'exit {status}' USR1; kill -TERM $PPID; for i in {{1..2000}}; do sleep 0.05; done"
    )
    assert done.status == status, done.err
    assert was_requeued(tmp_path) is again


@pytest.mark.parametrize(("number", "again"), [("TERM", True), ("USR1", False)])
def test_a_time_too_short_to_save_anything_is_not_given_again(number: str, again: bool, tmp_path: Path) -> None:
    done = slurm(tmp_path, THEN=f"kill -{number} $PPID; sleep 200")
    assert done.status == 128 + 10, done.err
    assert was_requeued(tmp_path) is again
    assert ("nothing new is saved" in done.err) is not again


@pytest.mark.parametrize("saved", [True, False])
def test_a_lost_node_is_left_for_others_where_that_helps(saved: bool, tmp_path: Path) -> None:
    then = f"{SAVES if saved else ':'}; exit 4"
    done = slurm(tmp_path, "--restarts", "1", THEN=then, MMAE_PAUSE="0")
    assert done.status == 4, done.err
    assert "restart 1 of 1" in done.err
    assert was_requeued(tmp_path) is saved
    assert ("nothing new is saved: another attempt would get no further" in done.err) is not saved


def test_where_nodes_names_lead_nowhere_ranks_meet_at_slurms_address(tmp_path: Path) -> None:
    end_record(tmp_path / "run x", "finished", [])
    done = slurm(tmp_path, UNKNOWN="2")
    assert done.status == 0, done.err
    assert (tmp_path / "seen").read_text().splitlines()[4] == "10.9.8.7"


def test_outside_a_job_it_says_how_to_start(tmp_path: Path) -> None:
    done = start(tmp_path, "slurm.sbatch", "--config", "debug", MMAE_ROOT=str(ROOT))
    assert done.status == 2
    assert "give the script to sbatch" in done.err

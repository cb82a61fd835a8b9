"""The launch scripts, with programs in the place of ssh, Slurm and Python's deepspeed."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.commands import Finished, command_environment
from tests.support.paths import ROOT

LAUNCHERS = ROOT / "launchers"
AWKWARD = ["--config", "debug", "data.shards=pipe:cat 'a b' {}?x&y", "run.dir=my $run [1]"]


def launch(
    folder: Path, script: str, *words: str, fakes: dict[str, str] | None = None, program: str = "bash",
    **environment: str,
) -> subprocess.Popen[str]:  # fmt: skip
    """Start a launcher in `folder`; `fakes` are shell programs that it finds first."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in (fakes or {}).items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)
    env = command_environment(PYTHONPATH=str(ROOT), HOME=str(folder), **environment)
    env["PATH"] = f"{programs}:{env['PATH']}"
    return subprocess.Popen(
        [*program.split(), str(LAUNCHERS / script), *words],
        cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def start(folder: Path, script: str, *words: str, fakes: dict[str, str] | None = None, **environment: str) -> Finished:
    """Run a launcher as `launch` starts it."""
    with launch(folder, script, *words, fakes=fakes, **environment) as process:
        try:
            out, err = process.communicate(timeout=300)
        except BaseException:
            process.kill()
            raise
    return Finished(process.returncode, out, err)


def wait_for(file: Path) -> None:
    """Wait until a program has made a file."""
    end = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.05)


def hosts(folder: Path) -> str:
    (folder / "hosts").write_text("node-1 slots=2\nnode-2 slots=4\n")
    return "hosts"


def end_record(folder: Path, why: str, reasons: list[str]) -> None:
    """A run that has just ended."""
    folder.mkdir(exist_ok=True)
    begin = {"kind": "start", "time": 1, "step": 0, "max_steps": 9}
    end = {"kind": "end", "time": 2, "step": 3, "why": why, "reasons": reasons}
    (folder / "log.jsonl").write_text(f"{json.dumps(begin)}\n{json.dumps(end)}\n")


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCHERS.glob("*.s*")))
def test_every_script_is_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(LAUNCHERS / script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_dry_run_of_one_node(tmp_path: Path) -> None:
    done = start(tmp_path, "single_node.sh", *AWKWARD, DRY_RUN="1", RANKS="2")
    assert done.status == 0, done.err
    assert shlex.split(done.out)[-5:] == ["mmae.train", *AWKWARD]


def test_dry_run_of_one_node_keeps_to_the_devices_that_were_given(tmp_path: Path) -> None:
    done = start(tmp_path, "single_node.sh", *AWKWARD, DRY_RUN="1", CUDA_VISIBLE_DEVICES="4,5")
    assert done.status == 0, done.err
    said = shlex.split(done.out)
    assert said[:3] == ["env", "-u", "CUDA_VISIBLE_DEVICES"]
    assert said[said.index("--include") + 1] == "localhost:4,5"
    assert "--num_gpus" not in said


def test_an_allocation_of_none_is_said_and_runs_on_the_cpu(tmp_path: Path) -> None:
    runner = "printf '%s\\n' \"$MMAE_DEVICES/$CUDA_VISIBLE_DEVICES/$DS_ACCELERATOR\""
    done = start(
        tmp_path, "single_node.sh", "--config", "debug", CUDA_VISIBLE_DEVICES="", fakes={"deepspeed": runner}
    )  # fmt: skip
    assert (done.status, done.out) == (0, "//cpu\n"), done.err
    assert done.err == "single_node.sh: CUDA_VISIBLE_DEVICES gives no GPU: ranks run on the CPU\n"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("single_node.sh", "--restarts N "), ("multi_node.sh", "bash launchers/multi_node.sh HOSTFILE "),
        ("slurm.sbatch", "sbatch --nodes=4 launchers/slurm.sbatch "), ("quickstart.sh", "MMAE_OUT=folder "),
        ("prebuild.sh", "OPS="),
    ],
)  # fmt: skip
@pytest.mark.parametrize("word", ["--help", "-h"])
def test_every_launcher_answers_a_call_for_help_and_does_nothing(
    script: str, said: str, word: str, tmp_path: Path
) -> None:
    acts = "touch acted"
    done = start(
        tmp_path, script, word,
        fakes={name: acts for name in ("python", "deepspeed", "g++", "srun", "pdsh", "mmae")},
    )  # fmt: skip
    assert (done.status, done.err) == (0, "")
    assert said in done.out
    assert not re.search("^(#|set |source )", done.out, re.MULTILINE)
    assert not (tmp_path / "acted").exists()


@pytest.mark.parametrize("script", ["quickstart.sh", "prebuild.sh"])
@pytest.mark.parametrize("word", ["--dry-run", "data", "--hlep"])
def test_a_launcher_that_takes_no_words_refuses_them(script: str, word: str, tmp_path: Path) -> None:
    done = start(tmp_path, script, word, fakes={"python": "touch acted", "g++": "touch acted"})
    assert done.status == 2
    assert done.err == f"error: {script} takes no words, not {word}: --help shows the variables it takes\n"
    assert not (tmp_path / "acted").exists()


def test_accelerate_is_told_how_many_processes_and_refuses_to_guess() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    # Of -1, which stands for a number that is not said, `accelerate launch` makes an error.
    assert load_config_from_file(str(LAUNCHERS / "accelerate.yaml")).num_processes == -1


def test_dry_run_of_many_nodes_shows_what_would_be_run_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / ".deepspeed_env").write_text("UCX_TLS=tcp\nHF_TOKEN=hunter2\n")
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--restarts", "2", "--exclude", "node-2:0", *AWKWARD,
        DRY_RUN="1", MASTER_ADDR="10.9.8.7", NCCL_ODD='a "b" $c',
        WANDB_API_KEY="hunter2", MLFLOW_TRACKING_TOKEN="hunter2",
    )  # fmt: skip
    assert done.status == 0, done.err
    said = shlex.split(done.out)
    expected = ["env", "-u", "MLFLOW_TRACKING_TOKEN", "deepspeed", "--hostfile", "hosts", "--master_addr", "10.9.8.7"]
    assert said[: len(expected)] == expected
    assert "--exclude=node-2:0" in said
    assert "run.dir=my \\$run [1]" in said  # as DeepSpeed's runner needs it
    assert 'NCCL_ODD="\'a "b" $c\'"' in done.err
    assert "UCX_TLS=tcp" in done.err
    assert re.search("not passed on to other nodes: .*MLFLOW_TRACKING_TOKEN, .*WANDB_API_KEY", done.err)
    assert "secrets in .deepspeed_env stay here: HF_TOKEN" in done.err
    assert "hunter2" not in done.out + done.err
    assert (tmp_path / ".deepspeed_env").read_text() == "UCX_TLS=tcp\nHF_TOKEN=hunter2\n"


def test_dry_run_without_ssh_leaves_words_as_they_are(tmp_path: Path) -> None:
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--no_ssh", "--node_rank", "1", *AWKWARD,
        DRY_RUN="1", MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    assert done.status == 0, done.err
    said = shlex.split(done.out)
    assert said[-5:] == ["mmae.train", *AWKWARD]
    assert said[said.index("--no_ssh") :][:3] == ["--no_ssh", "--node_rank", "1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "--config", "debug"], "nowhere: no such hostfile"),
        (["hosts", "--inclde", "a", "--config", "debug"], "unrecognized arguments: --inclde a"),
        (["hosts", "--config", "debgu"], "did you mean 'debug'"),
        (["hosts", "--config", "debug", "run.dri=x"], "unknown key 'run.dri'"),
        (["hosts", "--no_ssh", "--config", "debug"], "give --node_rank, 0 to 1"),
        (["hosts", "--include", "node-3", "--config", "debug"], "no host 'node-3'"),
        (["hosts", "--num_gpus", "3", "--config", "debug"], "--num_gpus 3: node-1 has 2 slots"),
        (["addresses", "--config", "debug"], "2001:db8::1: pdsh takes no IPv6 address: give the host a name"),
    ],
)
def test_what_cannot_start_is_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    hosts(tmp_path)
    (tmp_path / "addresses").write_text("2001:db8::1 slots=2\nnode-2 slots=2\n")
    done = start(tmp_path, "multi_node.sh", *words, MASTER_ADDR="10.9.8.7")
    assert done.status == 2
    assert said in done.err
    assert done.err.count("\n") == 1


def test_devices_of_this_shell_are_not_those_of_other_hosts(tmp_path: Path) -> None:
    words = (hosts(tmp_path), "--config", "debug")
    done = start(tmp_path, "multi_node.sh", *words, MASTER_ADDR="10.9.8.7", CUDA_VISIBLE_DEVICES="4,5")
    assert done.status == 2
    assert "CUDA_VISIBLE_DEVICES=4,5 is set here, and does not hold on other hosts: node-1 would use 0,1" in done.err


def test_a_node_that_is_started_by_hand_keeps_to_the_devices_that_were_given(tmp_path: Path) -> None:
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--no_ssh", "--node_rank", "0", "--config", "debug",
        DRY_RUN="1", MASTER_ADDR="10.9.8.7", CUDA_VISIBLE_DEVICES="4,5",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert shlex.split(done.out)[:3] == ["env", "MMAE_DEVICES=4,5", "deepspeed"]


def test_a_first_host_on_loopback_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("localhost slots=2\nnode-2 slots=4\n")
    done = start(tmp_path, "multi_node.sh", "hosts", "--config", "debug")
    assert done.status == 2
    assert "localhost resolves to" in done.err
    assert "set MASTER_ADDR" in done.err


PDSH = """
printf "%s\\n" "$*" >>pdsh
case "$*" in *mmae-is-there-*) printf 'node-%s: mmae-is-there-%s\\n' 1 0 2 1 ;; esac
"""
RUNNER = """
cat "$DS_ENV_FILE" >>seen; stat -c %a "$DS_ENV_FILE" >>seen; env >runner-environment
case $(grep -c ^MMAE_RESTARTS= seen) in 0) exit 247 ;; *) exit 3 ;; esac
"""


def test_a_lost_rank_elsewhere_is_started_again_and_told_so(tmp_path: Path) -> None:
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--restarts", "3", "--config", "debug", "run.dir=run",
        fakes={"deepspeed": RUNNER, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7", MMAE_PAUSE="0",
        WANDB_API_KEY="hunter2", MLFLOW_TRACKING_TOKEN="hunter2",
    )  # fmt: skip
    assert done.status == 3, done.err
    assert "a rank was killed by signal 9" in done.err
    assert "restart 1 of 3" in done.err
    seen = (tmp_path / "seen").read_text()
    assert seen.count("MMAE_RESTARTS=1\n") == 1
    # Both starts are of one launch.
    launches = re.findall(r"^MMAE_LAUNCH=(\S+)$", seen, re.MULTILINE)
    assert len(launches) == 2
    assert len(set(launches)) == 1
    assert seen.count("\n600\n") == 2
    assert "hunter2" not in seen
    assert "MLFLOW_TRACKING_TOKEN" not in (tmp_path / "runner-environment").read_text()
    # What was left on the nodes ended before the next start.
    assert "-w node-1,node-2 for launch in" in (tmp_path / "pdsh").read_text()
    assert "[m]aster_addr=10.9.8.7 --master_port=29500 " in (tmp_path / "pdsh").read_text()


@pytest.mark.parametrize(
    ("said", "status", "last"),
    [
        (["mmae: rank 0 on a failed with E: x", "n-1: mmae: error: one", "n-2: mmae: error: two"], 3,
         ["the first error: n-1: mmae: error: one"]),
        (["n-1: mmae: rank 0 on a failed with E: x", "more"], 1,
         ["the first error: n-1: mmae: rank 0 on a failed with E: x"]),
        (["pdsh@x: n-2: ssh exited with exit code 255", "n-1: mmae: error: lost rank: rank 1"], 255,
         ["lost the connection to n-2", "the first error: n-1: mmae: error: lost rank: rank 1"]),
        (["nothing to tell"], 2, []),
    ],
)  # fmt: skip
def test_the_first_error_is_said_last(said: list[str], status: int, last: list[str], tmp_path: Path) -> None:
    runner = f"echo out; printf '%s\\n' {shlex.join(said)} >&2; exit {status}"
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    assert done.status == (4 if status == 255 else status)
    assert done.out == "out\n"
    lines = [line for line in done.err.splitlines() if not line.startswith("not passed on")]
    assert lines == [*said, *(f"multi_node.sh: {line}" for line in last)]


@pytest.mark.parametrize("launcher", [["single_node.sh"], ["multi_node.sh", "hosts", "--no_ssh", "--node_rank", "0"]])
@pytest.mark.parametrize(
    ("said", "status", "last"),
    [
        (["mmae: rank 0 on a failed with E: x", "mmae: error: one", "mmae: error: two"], 3, "mmae: error: one"),
        (["mmae: rank 1 on a failed with E: x", "mmae: rank 0 on a failed with E: y"], 1,
         "mmae: rank 1 on a failed with E: x"),
        ([], 2, ""),
        (["mmae: error: it is said, and all ends well"], 0, ""),
    ],
)  # fmt: skip
def test_of_ranks_here_too(launcher: list[str], said: list[str], status: int, last: str, tmp_path: Path) -> None:
    lines = "".join(f"{line}\n" for line in said)
    runner = f"printf %s {shlex.quote(lines)} | tee -a $MMAE_ERRORS >&2; echo end >&2; exit {status}"
    hosts(tmp_path)
    done = start(
        tmp_path, *launcher, "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner}, MASTER_ADDR="10.9.8.7", TMPDIR=str(tmp_path), RANKS="1",
    )  # fmt: skip
    assert done.status == status
    repeated = f"{launcher[0]}: the first error: {last}\n" if last else ""
    assert done.err == f"{lines}end\n{repeated}"
    assert not list(tmp_path.glob("mmae-*"))


def test_each_start_again_has_a_first_error_of_its_own(tmp_path: Path) -> None:
    runner = "echo mmae: error: ${MMAE_RESTARTS:-first} >>$MMAE_ERRORS; exit $((4 - ${MMAE_RESTARTS:-0}))"
    done = start(
        tmp_path, "single_node.sh", "--restarts", "1", "--config", "debug",
        fakes={"deepspeed": runner}, MMAE_PAUSE="0", RANKS="1",
    )  # fmt: skip
    assert done.status == 3
    assert re.findall("the first error: (.*)", done.err) == ["mmae: error: first", "mmae: error: 1"]


@pytest.mark.parametrize("number", ["TERM", "INT", "USR1", "HUP"])
def test_a_signal_asks_ranks_elsewhere_through_the_runs_folder(number: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    runner = f"kill -{number} $PPID; for i in {{1..2000}}; do [ -e run/stop ] && exit 0; sleep 0.05; done; exit 9"
    done = start(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    assert done.status == 0, done.err
    assert "the ranks save and stop, within 300 s" in done.err
    assert not (tmp_path / "run" / "stop").exists()


def test_a_launcher_that_is_killed_leaves_no_rank_behind(tmp_path: Path) -> None:
    rank = "trap 'touch told; exit 0' TERM; touch started; for i in {1..2000}; do sleep 0.05; done"
    (tmp_path / "rank").write_text(rank)
    # As DeepSpeed's runner starts a launch process, which starts the ranks.
    runner = f"bash -c 'bash {tmp_path}/rank; exit $?'; exit $?"
    process = launch(tmp_path, "single_node.sh", "--config", "debug", fakes={"deepspeed": runner}, RANKS="1")
    try:
        wait_for(tmp_path / "started")
        process.kill()
        # stderr is closed when all have ended.
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "single_node.sh: SIGTERM: the ranks save and stop, within 300 s (MMAE_GRACE)" in err
    assert (tmp_path / "told").exists()


def test_a_launcher_that_is_killed_stops_ranks_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    runner = "touch started; for i in {1..2000}; do [ -e run/stop ] && touch told && exit 0; sleep 0.05; done; exit 9"
    process = launch(
        tmp_path, "multi_node.sh", hosts(tmp_path), "--config", "debug", "run.dir=run",
        fakes={"deepspeed": runner, "pdsh": PDSH}, MASTER_ADDR="10.9.8.7",
    )  # fmt: skip
    try:
        wait_for(tmp_path / "started")
        process.kill()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "SIGTERM: the ranks save and stop" in err
    assert (tmp_path / "told").exists()
    assert not (tmp_path / "run" / "stop").exists()


def test_what_a_launcher_was_started_to_ignore_does_not_stop_it(tmp_path: Path) -> None:
    runner = "touch started; for i in {1..2000}; do [ -e end ] && exit 0; sleep 0.05; done; exit 9"
    process = launch(
        tmp_path, "single_node.sh", "--config", "debug", fakes={"deepspeed": runner}, program="nohup bash", RANKS="1"
    )
    try:
        wait_for(tmp_path / "started")
        process.send_signal(signal.SIGHUP)
        (tmp_path / "end").touch()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "the ranks save and stop" not in err


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


def was_requeued(folder: Path) -> bool:
    return (folder / "requeued").exists() and (folder / "requeued").read_text() == "requeue 41\n"


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
        ("stopped", ["SIGTERM"], {"SHOWN": OUT_OF_TIME}, "queueing again"),
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
    assert was_requeued(tmp_path) is said.endswith(("queueing again", "queueing"))
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
    assert ("nothing new is saved: queued again it would come no further" in done.err) is not saved


def test_where_nodes_names_lead_nowhere_ranks_meet_at_slurms_address(tmp_path: Path) -> None:
    end_record(tmp_path / "run x", "finished", [])
    done = slurm(tmp_path, UNKNOWN="2")
    assert done.status == 0, done.err
    assert (tmp_path / "seen").read_text().splitlines()[4] == "10.9.8.7"


def test_outside_a_job_it_says_how_to_start(tmp_path: Path) -> None:
    done = start(tmp_path, "slurm.sbatch", "--config", "debug", MMAE_ROOT=str(ROOT))
    assert done.status == 2
    assert "give the script to sbatch" in done.err


def test_prebuild_builds_what_is_asked_for(tmp_path: Path) -> None:
    done = start(
        tmp_path, "prebuild.sh", fakes={"python": 'echo "builds $*"', "g++": ""}, OPS="ShareMemComm AsyncIO",
    )  # fmt: skip
    assert (done.status, done.out) == (0, "builds -m mmae.launch.prebuild ShareMemComm AsyncIO\n"), done.err


def test_dry_run_of_prebuild_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    done = start(tmp_path, "prebuild.sh", DRY_RUN="1", TORCH_EXTENSIONS_DIR=str(tmp_path), OPS="ShareMemComm AsyncIO")
    assert done.status == 0, done.err
    assert shlex.split(done.out)[-2:] == ["ShareMemComm", "AsyncIO"]
    assert (tmp_path / "lock").exists()

"""The launch scripts, with programs in the place of ssh, Slurm and Python's deepspeed."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.faked_launch import LAUNCHERS, hosts, start

AWKWARD = ["--config", "debug", "data.shards=pipe:cat 'a b' {}?x&y", "run.dir=my $run [1]"]


@pytest.mark.parametrize("script", sorted(path.name for path in LAUNCHERS.glob("*.s*")))
def test_every_script_is_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n", str(LAUNCHERS / script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_dry_run_of_one_node(tmp_path: Path) -> None:
    done = start(tmp_path, "single_node.sh", *AWKWARD, DRY_RUN="1", RANKS="2")
    assert done.status == 0, done.err
    assert shlex.split(done.out)[-5:] == ["mmae.train", *AWKWARD]


def test_bad_input_to_one_node_is_one_line_and_nothing_is_started(tmp_path: Path) -> None:
    words = ("--restarts", "2", "--config", "debug", "train.seed=x")
    done = start(tmp_path, "single_node.sh", *words, fakes={"deepspeed": "touch started"}, RANKS="2")
    assert done.status == 2
    assert "train.seed=x: not a whole number" in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "started").exists()


def test_dry_run_of_one_node_keeps_to_the_devices_that_were_given(tmp_path: Path) -> None:
    done = start(tmp_path, "single_node.sh", *AWKWARD, DRY_RUN="1", CUDA_VISIBLE_DEVICES="4,5")
    assert done.status == 0, done.err
    said = shlex.split(done.out)
    assert said[:3] == ["env", "-u", "CUDA_VISIBLE_DEVICES"]
    assert said[said.index("--include") + 1] == "localhost:4,5"
    assert "--num_gpus" not in said


def test_an_allocation_without_gpus_is_reported_and_runs_on_the_cpu(tmp_path: Path) -> None:
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
        (["hosts", "--include", "node-3", "--config", "debug"], "the hostfile has no host 'node-3'"),
        (["hosts", "--num_gpus", "3", "--config", "debug"], "--num_gpus 3: node-1 has 2 slots"),
        (["addresses", "--config", "debug"], "2001:db8::1: pdsh accepts no IPv6 address: give the host a name"),
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

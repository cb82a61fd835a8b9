from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmae.errors import InputError
from mmae.launch.rank_environment import exports, is_secret, leaking, of_remote_ranks, of_the_user, write

PYTHON = Path("/venv/bin/python")
SECRETS = {
    "WANDB_API_KEY": "s1",
    "HF_TOKEN": "s2",
    "AWS_ACCESS_KEY_ID": "s3",
    "AWS_PROFILE": "s4",
    "MMAE_SECRET": "s5",
    "NCCL_PASSWORD": "s6",
    "MLFLOW_TRACKING_TOKEN": "s7",
    "MLFLOW_TRACKING_URI": "https://me:s8@host/x",
    "wandb_api_key": "s9",
    "TORCH_PRIVATE_KEY": "s10",
}


def names(lines: list[str]) -> set[str]:
    return {line.partition("=")[0] for line in lines}


def test_ranks_get_what_they_need_and_no_secret() -> None:
    needed = {
        "NCCL_DEBUG": "INFO", "GLOO_SOCKET_IFNAME": "eth0", "TORCH_EXTENSIONS_DIR": "/x", "OMP_NUM_THREADS": "4",
        "MMAE_RESTARTS": "1", "HF_HOME": "/hf", "WANDB_MODE": "offline", "WANDB_PROJECT": "p", "CUDA_HOME": "/cuda",
    }  # fmt: skip
    others = {"HOME": "/me", "SSH_AUTH_SOCK": "x", "CUDA_VISIBLE_DEVICES": "3", "DS_ENV_FILE": "y", "LS_COLORS": "z"}
    lines = exports({**needed, **others, **SECRETS}, Path("/work"), PYTHON)
    assert names(lines) == {*needed, "PATH", "PYTHONPATH"}
    assert all(f"{name}={value}" in lines for name, value in needed.items())
    assert not [line for line in lines for value in SECRETS.values() if value in line]


def test_every_secret_is_seen_and_those_deepspeed_would_export_are_taken_from_it() -> None:
    assert all(is_secret(name, value) for name, value in SECRETS.items())
    assert not is_secret("WANDB_PROJECT", "https://host/a@b")
    assert leaking({**SECRETS, "NCCL_DEBUG": "INFO"}) == [
        "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI", "NCCL_PASSWORD",
    ]  # fmt: skip


def test_the_ranks_find_the_checkout_and_the_environments_programs_first() -> None:
    lines = exports({"PYTHONPATH": "/mine"}, Path("/work"), PYTHON)
    assert lines == ["PATH=\"'/venv/bin'\":$PATH", "PYTHONPATH=/work:/mine"]


def test_a_value_that_cannot_be_written_is_named() -> None:
    with pytest.raises(InputError, match="NCCL_X: holds a line break"):
        exports({"NCCL_X": "a\nb"}, Path("/work"), PYTHON)


def test_the_users_own_file_is_taken_in_without_its_secrets(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    for place in (home, folder):
        place.mkdir()
    (home / ".deepspeed_env").write_text("# mine\n\nNCCL_IB_HCA=mlx5\nWANDB_API_KEY=s1\n")
    (folder / ".deepspeed_env").write_text("PROXY=http://me:s2@host\nX=a b\n")
    assert of_the_user({}, home, folder) == (["NCCL_IB_HCA=mlx5", "X=a b"], ["WANDB_API_KEY", "PROXY"])
    (folder / "other").write_text("Y=1\n")
    assert of_the_user({"DS_ENV_FILE": "other"}, home, folder) == (["Y=1"], [])
    (folder / ".deepspeed_env").write_text("nonsense\n")
    with pytest.raises(InputError, match="'nonsense' is not of the form NAME=value"):
        of_the_user({}, home, folder)
    (folder / ".deepspeed_env").write_bytes(b"X=\xff\n")
    with pytest.raises(InputError, match="deepspeed_env: it cannot be read"):
        of_the_user({}, home, folder)


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    write(tmp_path / "exports", ["A=1", "B=2"])
    assert (tmp_path / "exports").read_text() == "A=1\nB=2\n"
    assert (tmp_path / "exports").stat().st_mode & 0o777 == 0o600


SHELL = {
    "PYTHONPATH": "/mine", "PYTHON-X": "1", "NCCL_DEBUG": "TRACE", "GLOO_SOCKET_IFNAME": "eth0", "UCX_TLS": "a b",
    "OMP_NUM_THREADS": "4", "TORCH_EXTENSIONS_DIR": "/ops 50%", "CUDA_VISIBLE_DEVICES": "3", "HOME": "/me", **SECRETS,
    "MMAE_COMMAND": "train data.shards=https://me:word@host/shards",
}  # fmt: skip


def started_by_deepspeed(shell: dict[str, str], home: Path, folder: Path) -> dict[str, str]:
    """The variables of a training's ranks on another host, by the code of the installed DeepSpeed."""
    from deepspeed.launcher.multinode_runner import PDSHRunner
    from deepspeed.launcher.runner import EXPORT_ENVS

    runner = PDSHRunner(SimpleNamespace(user_args=[], user_arguments=[], user_script="", launcher_args=""), "none")
    kept = {name: value for name, value in shell.items() if name not in leaking(shell) and name.isidentifier()}
    for name, value in kept.items():
        if any(name.startswith(prefix) for prefix in (*EXPORT_ENVS, "NCCL")):
            runner.add_export(name, value)
    for line in exports(shell, folder, PYTHON) + of_the_user(shell, home, folder)[0]:
        runner.add_export(*line.split("=", maxsplit=1))
    line = "".join(f"export {name}={value}; " for name, value in runner.exports.items()).replace("%%", "%")
    done = subprocess.run(["bash", "-c", f"{line} env -0"], stdout=subprocess.PIPE, text=True, check=True, env={})
    pairs = dict(entry.split("=", maxsplit=1) for entry in done.stdout.split("\0") if entry)
    return {name: value for name, value in pairs.items() if name not in {"PATH", "PWD", "SHLVL", "_", "MMAE_COMMAND"}}


@pytest.mark.process
def test_the_doctors_questions_are_asked_with_the_variables_of_a_trainings_ranks(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"
    for place in (home, folder):
        place.mkdir()
    (home / ".deepspeed_env").write_text("NCCL_DEBUG=WARN\nNCCL_IB_HCA=mlx5\nWANDB_API_KEY=x\nPROXY=http://a:b@host\n")
    (folder / ".deepspeed_env").write_text("NCCL_DEBUG=INFO\nA= b=c\n")
    found = of_remote_ranks(SHELL, home, folder)
    assert found == started_by_deepspeed(SHELL, home, folder)
    assert found == {
        "PYTHONPATH": f"{folder}:/mine", "NCCL_DEBUG": "INFO", "GLOO_SOCKET_IFNAME": "eth0", "UCX_TLS": "a b",
        "OMP_NUM_THREADS": "4", "TORCH_EXTENSIONS_DIR": "/ops 50%", "NCCL_IB_HCA": "mlx5", "A": "b=c",
    }  # fmt: skip

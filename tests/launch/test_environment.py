"""Which variables ranks on other hosts get."""

from __future__ import annotations

from pathlib import Path

from mmae.launch.rank_environment import passed_on


def test_few_of_the_shell_and_all_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("NCCL_DEBUG=WARN\nGLOO_SOCKET_IFNAME=eth0\nno line\nbad name=1\nA=b=c\n")
    (tmp_path / "second").write_text("NCCL_DEBUG=INFO\n")
    shell = {"PYTHONPATH": "/x", "PATH": "/bin", "NCCL_DEBUG": "TRACE", "PYTHON-X": "1", "GLOO_SOCKET_IFNAME": "lo"}
    found = passed_on(shell, [tmp_path / "first", tmp_path / "absent", tmp_path / "second"])
    assert found == {"PYTHONPATH": "/x", "NCCL_DEBUG": "INFO", "GLOO_SOCKET_IFNAME": "eth0", "A": "b=c"}


def test_secrets_stay_here(tmp_path: Path) -> None:
    """They would stand on ssh's command line, which everybody on both machines can read."""
    (tmp_path / "own").write_text("WANDB_API_KEY=x\nHTTPS_PROXY=http://me:word@proxy\nNCCL_DEBUG=INFO\n")
    shell = {"MLFLOW_TRACKING_TOKEN": "x", "MLFLOW_TRACKING_URI": "http://me:word@host", "PYTHONPATH": "/x"}
    assert passed_on(shell, [tmp_path / "own"]) == {"PYTHONPATH": "/x", "NCCL_DEBUG": "INFO"}

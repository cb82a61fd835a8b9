"""Facts that this machine reports about itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmae.doctor.agent import facts


def with_tool(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.mark.process
@pytest.mark.parametrize(
    ("script", "gpus", "driver"),
    [("echo 550.54; echo 550.54", 2, "550.54"), ("exit 9", -1, ""), ("true", 0, ""), ("exec sleep 6000", -1, "")],
)
def test_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, gpus: int, driver: str) -> None:
    # Those that answer may take as long as they do on a busy machine.
    monkeypatch.setattr(facts, "_TOOL_S", 0.3 if "sleep" in script else 60.0)
    with_tool(tmp_path, monkeypatch, script)
    found = facts.gather()
    assert (found.gpus, found.driver) == (gpus, driver)


def test_tools_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")
    found = facts.gather()
    assert found.missing_tools == ["ninja", "g++"]
    assert found.environment["GLOO_SOCKET_IFNAME"] == "eth7"


def test_facts_about_torch_need_no_import_of_it() -> None:
    assert facts.torch_built_for("cuda") == (torch.version.cuda or "")
    assert facts.gather().versions["torch"] in {torch.__version__, torch.__version__.partition("+")[0]}

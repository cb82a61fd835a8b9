"""Who holds a lock, and whether that process lives."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from mmae.processes import started
from mmae.run.lock_owner import Holder


@pytest.mark.process
def test_the_remains_of_a_process_do_not_live() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 120
    while started(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert started(child.pid) == ""
    child.wait()
    assert started(2**22 + 1) == ""


def test_it_is_rendered_as_json() -> None:
    assert json.loads(Holder("a", 1, "2", "3", "4").render())["pid"] == 1

"""What is left of a process group, and when."""

from __future__ import annotations

import ctypes
import threading
import time

from mmae.distributed import process_group

SET_NAME = 15  # PR_SET_NAME of linux/prctl.h


def test_a_group_is_left_when_gloos_threads_rest() -> None:
    rests, end = threading.Event(), threading.Event()
    named = threading.Event()

    def work() -> None:
        ctypes.CDLL(None).prctl(SET_NAME, process_group._GLOO_THREAD.encode())
        named.set()
        for _ in range(100):
            time.sleep(0.01)
        rests.set()
        end.wait()

    thread = threading.Thread(target=work)
    thread.start()
    named.wait()
    process_group._wait_for_gloo()
    assert rests.is_set()
    end.set()
    thread.join()

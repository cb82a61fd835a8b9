"""One rank of a program that trains: from the launch to the exit status.

`mmae train` and `mmae finetune` differ in what they plan and in what they then do. All between is here: the launch is
checked, bad input is refused before ranks meet, ranks are compared and joined, and the run's folder is locked.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from mmae.disk.ownership import write_as_own
from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED, DoesNotFitError
from mmae.terminal.edge import ending
from mmae.terminal.error_line import say_error

if TYPE_CHECKING:
    from mmae.config.finetune_schema import FinetuneConfig
    from mmae.config.schema import Config
    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop
    from mmae.run.folder import RunFolder
    from mmae.run.locking.lock import RunLock


class Planned(Protocol):
    """What a start will do."""

    @property
    def config(self) -> Config | FinetuneConfig: ...

    @property
    def folder(self) -> RunFolder: ...


Spec = TypeVar("Spec", bound=Planned)


def run_rank(
    plan: Callable[[int], Spec],
    runs: Callable[[Spec], dict[str, str]],
    load_work: Callable[[], Callable[[Spec, RunLock, Stop, Watchdog], int]],
) -> int:
    """Run this process as a rank, and as the only one where no launcher started it.

    Args:
        plan: all checks that need no other rank; its argument is the number of ranks. It raises `InputError`.
        runs: everything that must be equal on all ranks.
        load_work: imports what does the work, while the chatter of libraries is held back. The work returns the exit
            status.

    Returns:
        the exit status.
    """
    # Imported after the arguments are parsed: help answers at once, and bad input is refused before seconds of imports.
    from mmae.distributed.devices import check_own_devices
    from mmae.distributed.process_group import join_and_talk, leave
    from mmae.engine.telemetry.library_output import Chatter, let_libraries_speak

    world = _launched()

    def planned() -> Spec:
        spec = plan(world)
        check_own_devices(os.environ)
        return spec

    # A single rank is told of bad input before torch is imported, which takes seconds.
    alone = planned() if world == 1 else None
    from mmae.distributed.preflight import Preflight
    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop

    with Chatter() as chatter, Preflight(world) as preflight:
        spec = alone or preflight.answer(planned, runs)
        chatter.verbose = spec.config.log.verbose
        from mmae.addresses import hide_in_words
        from mmae.engine.telemetry.run_exit import was_said
        from mmae.engine.telemetry.run_log import quiet_libraries
        from mmae.engine.telemetry.trackers import any_left_behind
        from mmae.run.locking.lock import held

        work = load_work()
        # Trackers, which start later, write the command line down or send it on.
        sys.argv[1:] = hide_in_words(sys.argv[1:])
        # What others can write, the next start would refuse to read.
        write_as_own()
        quiet_libraries()
        _announce_builds()
        rank, limits = preflight.meet(join_and_talk), spec.config.train
        let_libraries_speak(chatter.verbose)
    status = EXIT_BAD_INPUT
    try:
        with (
            held(spec.folder.path) as lock,
            Stop(spec.folder.path, rank, limits.max_hours) as stop,
            Watchdog(rank, world, limits.rank_timeout) as rank_watchdog,
        ):
            status = work(spec, lock, stop, rank_watchdog)
    except Exception as error:
        ended, status = ending(error), EXIT_FAILED
        if ended is not None:
            status = ended.status
            if ended.line:
                say_on_node(error, f"mmae: {ended.line}")
        elif not was_said(error):
            traceback.print_exception(error)
    finally:
        leave()
    if any_left_behind():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _launched() -> int:
    """Look at how this process was launched, and at what it was given. Returns the number of ranks."""
    from mmae.distributed.devices import take_given
    from mmae.distributed.launch_environment import check_launch, world_size
    from mmae.distributed.launcher_process import end_with_launchers
    from mmae.distributed.one_node import meet_here

    end_with_launchers()
    check_launch(os.environ)
    take_given(os.environ)
    meet_here(os.environ)
    return world_size(os.environ)


def say_on_node(error: BaseException, line: str) -> None:
    """Say a line about an error: every rank meets the same bad input, and one line for each node is enough."""
    from mmae.distributed.process_group import is_local_main

    if is_local_main() or isinstance(error, DoesNotFitError):
        say_error(line)


def _announce_builds() -> None:
    from mmae.distributed.process_group import is_local_main
    from mmae.engine.operators.op_build import announce_builds

    if is_local_main():
        announce_builds(lambda line: print(f"mmae: {line}", file=sys.stderr, flush=True))

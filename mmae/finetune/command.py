"""`mmae finetune`: a downstream model from a pretrained one, on one process or many.

    mmae finetune --config finetune_segmentation model.init_from=MODEL data.shards=S run.dir=D task.target=semseg

It ends with one JSON line. Its exit status is 0 where it is done or was stopped well, 1 after an error, 2 for bad
input, 3 for lost numbers, 4 for a lost rank. SIGTERM, SIGINT, SIGUSR1 and a file `stop` in the run's folder make it
save and stop.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import TYPE_CHECKING

from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of
from mmae.disk.ownership import add_trust_argument, write_as_own
from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED, DoesNotFitError
from mmae.terminal.edge import Parser, ending, guarded, parse
from mmae.terminal.error_line import say_error

if TYPE_CHECKING:
    from mmae.finetune.start.tuning_spec import TuningSpec

_WHAT = "packaged recipe (finetune_classification, finetune_segmentation, ...) or YAML file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, _WHAT)
    parser.add_argument("--fresh", action="store_true", help="begin anew; what run.dir holds is archived within it")
    add_trust_argument(parser, "a run, recipe or model")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # launchers pass it, and LOCAL_RANK


def run(args: argparse.Namespace) -> int:
    # Imported after the arguments are parsed: help answers at once, and bad input is refused before seconds of imports.
    from mmae.distributed.devices import take_given
    from mmae.distributed.launch_environment import check_launch, world_size
    from mmae.distributed.launcher_process import end_with_launchers
    from mmae.distributed.one_node import meet_here
    from mmae.finetune.start.tuning_spec import runs

    end_with_launchers()
    check_launch(os.environ)
    take_given(os.environ)
    meet_here(os.environ)
    world = world_size(os.environ)

    # A single rank is told of bad settings before torch is imported, which takes seconds.
    planned = _plan(args, world) if world == 1 else None
    from mmae.distributed.preflight import Preflight
    from mmae.distributed.process_group import join_and_talk, leave
    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop
    from mmae.engine.telemetry.library_output import Chatter, let_libraries_speak

    with Chatter() as chatter, Preflight(world) as preflight:
        spec = planned or preflight.answer(lambda: _plan(args, world), runs)
        chatter.verbose = spec.config.log.verbose
        from mmae.addresses import hide_in_words
        from mmae.engine.telemetry.run_exit import was_said
        from mmae.engine.telemetry.run_log import quiet_libraries
        from mmae.engine.telemetry.trackers import any_left_behind
        from mmae.finetune.whole_command import finetune
        from mmae.run.lock import held

        sys.argv[1:] = hide_in_words(sys.argv[1:])
        write_as_own()
        quiet_libraries()
        rank, limits = preflight.meet(join_and_talk), spec.config.train
        let_libraries_speak(chatter.verbose)
    status = EXIT_BAD_INPUT
    try:
        with (
            held(spec.folder.path) as lock,
            Stop(spec.folder.path, rank, limits.max_hours) as stop,
            Watchdog(rank, world, limits.rank_timeout) as rank_watchdog,
        ):
            status = finetune(spec, lock, stop, rank_watchdog)
    except Exception as error:
        ended, status = ending(error), EXIT_FAILED
        if ended is not None:
            status = ended.status
            if ended.line:
                _say(error, f"mmae: {ended.line}")
        elif not was_said(error):
            traceback.print_exception(error)
    finally:
        leave()
    if any_left_behind():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def _plan(args: argparse.Namespace, world: int) -> TuningSpec:
    from mmae.distributed.devices import check_own_devices
    from mmae.finetune.start.tuning_spec import make_tuning_spec

    recipe, overrides = recipe_of(args)
    spec = make_tuning_spec(recipe, overrides, world, args.trust, args.fresh)
    check_own_devices(os.environ)
    return spec


def _say(error: BaseException, line: str) -> None:
    from mmae.distributed.process_group import is_local_main

    # Every rank meets the same bad input; one line for each node is enough.
    if is_local_main() or isinstance(error, DoesNotFitError):
        say_error(line)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `--module mmae.finetune.command`: one rank of a fine-tuning."""
    parser = Parser(prog="mmae finetune", description=__doc__)
    add_arguments(parser)
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: run(parse(parser, words)), say=_say)


if __name__ == "__main__":
    raise SystemExit(main())

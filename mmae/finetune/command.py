"""`mmae finetune`: a downstream model from a pretrained one, on one process or many.

    mmae finetune --config finetune_segmentation model.init_from=MODEL data.shards=S run.dir=D task.target=semseg

It ends with one JSON line. Its exit status is 0 where it is done or was stopped well, 1 after an error, 2 for bad
input, 3 for lost numbers, 4 for a lost rank. SIGTERM, SIGINT, SIGUSR1 and a file `stop` in the run's folder make it
save and stop.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of
from mmae.disk.ownership import add_trust_argument
from mmae.rank_program import run_rank, say_on_node
from mmae.terminal.edge import Parser, guarded, parse

if TYPE_CHECKING:
    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop
    from mmae.finetune.start.tuning_spec import TuningSpec
    from mmae.run.locking.lock import RunLock

    Work = Callable[[TuningSpec, RunLock, Stop, Watchdog], int]

_WHAT = "packaged recipe (finetune_classification, finetune_segmentation, ...) or YAML file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser, _WHAT)
    parser.add_argument("--resume", metavar="PATH", help="go on from this checkpoint, or from the newest of this run")
    parser.add_argument("--fresh", action="store_true", help="begin anew; what run.dir holds is archived within it")
    add_trust_argument(parser, "a run, recipe or model")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # launchers pass it, and LOCAL_RANK


def run(args: argparse.Namespace) -> int:
    from mmae.finetune.start.tuning_spec import make_tuning_spec, runs

    def plan(world: int) -> TuningSpec:
        recipe, overrides = recipe_of(args)
        return make_tuning_spec(recipe, overrides, world, args.trust, args.resume, args.fresh)

    def work() -> Work:
        from mmae.finetune.whole_command import finetune

        return finetune

    return run_rank(plan, runs, work)


def main(argv: list[str] | None = None) -> int:
    """Entry point of `--module mmae.finetune.command`: one rank of a fine-tuning."""
    parser = Parser(prog="mmae finetune", description=__doc__)
    add_arguments(parser)
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: run(parse(parser, words)), say=say_on_node)


if __name__ == "__main__":
    raise SystemExit(main())

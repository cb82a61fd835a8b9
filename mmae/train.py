"""Train a MultiMAE, or go on training one. Reads from top to bottom: plan, engine, resume, data, loop.

    deepspeed --num_gpus 8 --module mmae.train --config vit_l --deepspeed_config zero1 data.shards=SHARDS

Ends with one JSON line: run_dir, step, tiles_seen, losses, checkpoint. Exit status: 0 done or stopped well,
2 bad input, 3 lost numbers (too many steps in a row whose loss or gradient is not finite), 4 lost rank.
SIGTERM, SIGINT and SIGUSR1 save and stop; so does a file `stop` in the run's folder.
"""

from __future__ import annotations

import argparse
import signal
import sys
from typing import TYPE_CHECKING

from mmae.errors import EXIT_BAD_INPUT, EXIT_LOST_NUMBERS, InputError

if TYPE_CHECKING:
    from mmae.engine.heartbeat import Heartbeat
    from mmae.engine.plan import Plan
    from mmae.engine.stopping import Stop


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="RECIPE", help="packaged recipe (debug, vit_l) or YAML file")
    parser.add_argument(
        "--deepspeed_config", default="zero1", metavar="JSON", help="packaged name (zero1, zero2) or JSON file"
    )
    parser.add_argument("--trust", action="store_true", help="resume from a checkpoint that another user wrote")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # launchers pass it; LOCAL_RANK says it too
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a key of the recipe")


def run(args: argparse.Namespace) -> int:
    # Imports stand behind argument parsing: help answers at once, and bad input is refused before seconds of imports.
    from mmae.engine.distributed import join, leave, world_size
    from mmae.engine.heartbeat import Heartbeat
    from mmae.engine.plan import plan_run
    from mmae.engine.stopping import Stop

    plan = plan_run(args.config, args.deepspeed_config, args.overrides, world_size(), args.trust)
    from mmae.engine.logging import quiet_libraries

    quiet_libraries()
    rank, limits = join(), plan.config.train
    try:
        with (
            Stop(plan.folder.path, rank, limits.max_hours) as stop,
            Heartbeat(rank, world_size(), limits.rank_timeout) as beat,
        ):
            return train(plan, stop, beat)
    finally:
        leave()


def train(plan: Plan, stop: Stop | None = None, beat: Heartbeat | None = None) -> int:  # noqa: PLR0915 (one story, told in one place)
    """Train to the end, to `train.stop_at`, or until asked to stop. Every rank of the process group calls this.

    Args:
        stop: reasons to stop that come from outside; None: there are none.
        beat: watches the ranks; None: nobody does.

    Returns:
        the exit status.
    """
    import torch.distributed as dist

    from mmae.data.loader import train_batches
    from mmae.data.prefetch import on_device
    from mmae.data.preprocess import Preprocess
    from mmae.engine import checkpoint, heartbeat, report, stopping
    from mmae.engine.build import build_engine
    from mmae.engine.damage import DamageLog
    from mmae.engine.guard import Guard
    from mmae.engine.logging import RunLog
    from mmae.engine.sample_log import SampleLog
    from mmae.engine.step import optimiser_step, prepare_step
    from mmae.engine.validate import validate_split

    config, folder, rank = plan.config, plan.folder, dist.get_rank()
    stop = stop or stopping.Stop(folder.path, rank, None)
    beat = beat or heartbeat.Heartbeat.none()

    # 1. The checkpoint to go on from: refused before anything is built if it does not fit.
    found = checkpoint.find(plan)

    # 2. The engine; then, if there is a checkpoint, everything it holds. Only what got so far writes into the folder.
    engine = build_engine(config, plan.ds_config, load_initial=found is None)
    step = checkpoint.load(engine, plan, found) if found else 0
    if rank == 0:
        folder.write_configs(config, plan.ds_config, plan.band_stats)
    dist.barrier()
    log = RunLog(folder.log_file, config, rank, step)
    samples = SampleLog(folder.path, rank, config.log.samples)
    damage = DamageLog(folder.path, rank)
    guard = Guard(engine, plan, rank)
    report.announce(log, plan, engine, found)

    # 3. Data, from where the step says the run stands in it.
    preprocess = Preprocess(config.data, config.model, plan.band_stats, engine.device)
    read = train_batches(
        plan.tiles,
        config.model.domains,
        config.data,
        seed=config.train.seed,
        order=plan.order,
        split=plan.split,
        rank=rank,
        start_step=step,
        stop_step=plan.stop,
        pin=engine.device.type == "cuda",
    )
    batches = on_device(read, engine.device, ahead=plan.split.accumulation)
    clock = report.Clock(step)
    losses: dict[str, float] = {}
    val_losses: dict[str, float] = {}
    saved = found.path if found else None
    first = step

    # 4. The loop.
    asked = stop.agree_now(engine.device)
    while step < plan.stop and not asked:
        # The first steps may compile.
        beat.at(step, "data" if step >= first + 2 else "start")
        micro_batches = clock.take(batches, plan.split.accumulation)
        beat.at(step, "step" if step >= first + 2 else "start")
        damage.write(step + 1, micro_batches)
        prepared = prepare_step(micro_batches, preprocess, config)
        samples.write(step, micro_batches, prepared)
        stats = optimiser_step(engine, prepared, config, stop.wanted(engine.device))
        damage.count(stats)
        step += 1
        skipped = guard.after_step(step, stats, micro_batches)
        last = step == plan.stop
        if last or step % config.log.every == 0:
            record = report.step_record(step, stats, plan, engine, clock, damage)
            record |= {"skipped": bool(skipped), "skipped_steps": int(guard.skipped)}
            losses = record["losses"]
            log.write("train", **record)
            log.progress(step, record["loss"], record["tiles_per_second"])
        saves = last or step % config.checkpoint.every == 0
        validates = last or (config.val.every > 0 and step % config.val.every == 0)
        agreed = guard.drain() if saves or validates else guard.agreed(step)
        if agreed.bad >= config.train.max_bad_steps:
            log.say(guard.despair(step, saved))
            return EXIT_LOST_NUMBERS
        asked = stopping.names(agreed.wanted_R)
        if validates and (last or not asked):
            with clock.paused(), beat.during(step, "validate"):
                stop.doing = "validating"
                val_losses = validate_split(engine, plan, preprocess, damage, step)
            log.write("val", step=step, losses=val_losses)
        if saves or asked:
            with clock.paused() as pause, beat.during(step, "save"):
                stop.doing = "saving"
                saved = checkpoint.save(engine, plan, step)
            log.write("save", step=step, checkpoint=str(saved), seconds=pause.seconds)
            stop.saved(pause.seconds)
        stop.doing = "finishing the step"

    beat.at(step, "end")
    if asked and step < plan.stop:
        log.write("stop", step=step, reasons=list(asked))
        log.say(stopping.how_to_go_on(step, saved, asked, plan.split.world))
    stop.obeyed(asked)
    samples.close()
    log.close()
    engine.destroy()
    if rank == 0:
        print(report.closing_line(plan, step, saved, losses, val_losses), flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry of `--module mmae.train`: one rank of a training."""
    from mmae.engine.distributed import is_local_main

    parser = argparse.ArgumentParser(prog="mmae train", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    try:
        return run(args)
    except InputError as error:
        # Every rank meets the same bad input; one line a node is enough.
        if is_local_main():
            print(f"mmae: error: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        # Before the ranks have met; from there on it is caught, and answered by a save.
        return 128 + signal.SIGINT


if __name__ == "__main__":
    raise SystemExit(main())

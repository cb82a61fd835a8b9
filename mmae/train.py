"""Train a MultiMAE, or go on training one. Reads from top to bottom: plan, engine, resume, data, loop.

    deepspeed --num_gpus 8 --module mmae.train --config vit_l --deepspeed_config zero1 data.shards=SHARDS

Ends with one JSON line: run_dir, step, tiles_seen, losses, checkpoint. Exit status: 0 done or stopped well,
2 bad input, 3 lost numbers (a loss that is not finite). 4 is kept for a lost rank.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

from mmae.errors import EXIT_BAD_INPUT, EXIT_LOST_NUMBERS, InputError

if TYPE_CHECKING:
    from mmae.engine.plan import Plan
    from mmae.engine.run_lock import RunLock


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, metavar="RECIPE", help="packaged recipe (debug, vit_l) or YAML file")
    parser.add_argument(
        "--deepspeed_config", default="zero1", metavar="JSON", help="packaged name (zero1, zero2) or JSON file"
    )
    parser.add_argument("--resume", metavar="PATH", help="go on from this checkpoint, or from the newest of this run")
    parser.add_argument("--fresh", action="store_true", help="begin anew; what run.dir holds is set aside within it")
    parser.add_argument("--trust", action="store_true", help="resume from a checkpoint that another user wrote")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # launchers pass it; LOCAL_RANK says it too
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="override a key of the recipe")


def run(args: argparse.Namespace) -> int:
    # Imports stand behind argument parsing: help answers at once, and bad input is refused before seconds of imports.
    from mmae.engine.distributed import join, leave, world_size
    from mmae.engine.plan import plan_run

    plan = plan_run(
        args.config, args.deepspeed_config, args.overrides, world_size(), args.trust, args.resume, args.fresh
    )
    from mmae.engine.logging import quiet_libraries
    from mmae.engine.run_lock import held

    quiet_libraries()
    join()
    try:
        with held(plan.folder.path) as lock:
            return train(plan, lock)
    finally:
        leave()


def train(plan: Plan, lock: RunLock | None = None) -> int:  # noqa: PLR0915 (one story, told in one place)
    """Train to the end, or to `train.stop_at`. Every rank of the process group calls this.

    Args:
        lock: of the run's folder, held by the caller.

    Returns:
        the exit status.
    """
    import torch.distributed as dist

    from mmae.data.loader import train_batches
    from mmae.data.prefetch import on_device
    from mmae.data.preprocess import Preprocess
    from mmae.engine import checkpoint, report, resume
    from mmae.engine.build import build_engine
    from mmae.engine.damage import DamageLog
    from mmae.engine.logging import RunLog
    from mmae.engine.sample_log import SampleLog
    from mmae.engine.saving import Saver
    from mmae.engine.step import optimiser_step, prepare_step
    from mmae.engine.validate import validate_split

    config, folder, rank = plan.config, plan.folder, dist.get_rank()

    # 1. The checkpoint to go on from: refused before anything is built if it does not fit.
    found = resume.find(plan)

    # 2. The engine; then, if there is a checkpoint, everything it holds. Only what got so far writes into the folder.
    engine = build_engine(config, plan.ds_config, load_initial=found is None)
    loaded = checkpoint.load(engine, plan, found) if found else checkpoint.Loaded(0)
    step = loaded.step
    if rank == 0:
        folder.write_configs(config, plan.ds_config, plan.band_stats)
    dist.barrier()
    log = RunLog(folder.log_file, config, rank, step)
    samples = SampleLog(folder.path, rank, config.log.samples)
    damage = DamageLog(folder.path, rank)
    report.announce(log, plan, engine, found, loaded)
    saver = Saver(engine, plan, found.path if found else None, lock)

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

    # 4. The loop.
    while step < plan.stop:
        micro_batches = clock.take(batches, plan.split.accumulation)
        damage.write(step + 1, micro_batches)
        prepared = prepare_step(micro_batches, preprocess, config)
        samples.write(step, micro_batches, prepared)
        stats = optimiser_step(engine, prepared, config)
        damage.count(stats)
        step += 1
        last = step == plan.stop
        if last or step % config.log.every == 0:
            record = report.step_record(step, stats, plan, engine, clock, damage)
            losses = record["losses"]
            log.write("train", **record)
            log.progress(step, record["loss"], record["tiles_per_second"])
            if not math.isfinite(record["loss"]):
                log.say(
                    f"step {step}: the loss is not finite ({losses}); the last checkpoint ({saver.last}) is untouched"
                )
                return EXIT_LOST_NUMBERS
        if last or (config.val.every and step % config.val.every == 0):
            with clock.paused():
                val_losses = validate_split(engine, plan, preprocess, damage, step)
            log.write("val", step=step, losses=val_losses)
        if last or step % config.checkpoint.every == 0:
            with clock.paused():
                ended = saver.save(step)
                ended += saver.finish() if last else []
            for saved in ended:
                report.save_record(log, saved)

    samples.close()
    log.close()
    engine.destroy()
    saver.must_have(step)
    if rank == 0:
        print(report.closing_line(plan, step, saver.last, losses, val_losses), flush=True)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry of `--module mmae.train`: one rank of a training."""
    from mmae.engine.distributed import is_local_main

    parser = argparse.ArgumentParser(prog="mmae train", description=__doc__)
    add_arguments(parser)
    args = parser.parse_intermixed_args(argv)  # flags may stand between overrides
    try:
        return run(args)
    except InputError as error:
        # Every rank meets the same bad input; one line a node is enough.
        if is_local_main():
            print(f"mmae: error: {error}", file=sys.stderr, flush=True)
        return EXIT_BAD_INPUT


if __name__ == "__main__":
    raise SystemExit(main())

"""Train a MultiMAE, or resume a training. The module reads from top to bottom: plan, resume, engine, data, loop, end.

    bash launchers/single_node.sh --config vit_l --deepspeed_config zero1 data.shards=SHARDS

A training ends with one JSON line: run_dir, step, tiles_seen, losses, checkpoint. Its exit status is 0 where it is done
or was stopped well, 1 after an error, 2 for bad input, 3 for lost numbers (too many steps in a row had a loss or
gradient that is not finite, or a validation had), 4 for a lost rank.
SIGTERM, SIGINT and SIGUSR1 make it save and stop; so does a file `stop` in the run's folder.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of
from mmae.disk.ownership import add_trust_argument
from mmae.errors import EXIT_LOST_NUMBERS
from mmae.rank_program import run_rank, say_on_node
from mmae.terminal.edge import Parser, guarded, parse

if TYPE_CHECKING:
    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop
    from mmae.engine.telemetry.run_exit import RunEnd
    from mmae.engine.validate import Validation
    from mmae.evaluate.in_loop.probes import Probed
    from mmae.run.locking.lock import RunLock
    from mmae.run.spec import RunSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument(
        "--deepspeed_config", default="zero1", metavar="JSON", help="packaged name (zero1, zero2) or JSON file"
    )
    parser.add_argument("--resume", metavar="PATH", help="go on from this checkpoint, or from the newest of this run")
    parser.add_argument("--fresh", action="store_true", help="begin anew; what run.dir holds is archived within it")
    add_trust_argument(parser, "a run, recipe or model")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # launchers pass it, and LOCAL_RANK


def run(args: argparse.Namespace) -> int:
    from mmae.run.spec import make_run_spec, runs

    def plan(world: int) -> RunSpec:
        recipe, overrides = recipe_of(args)
        return make_run_spec(recipe, args.deepspeed_config, overrides, world, args.trust, args.resume, args.fresh)

    return run_rank(plan, runs, lambda: train)


def train(
    spec: RunSpec, lock: RunLock | None = None, stop: Stop | None = None, rank_watchdog: Watchdog | None = None
) -> int:
    """Train to the end, to `train.stop_at`, or until asked to stop. Every rank of the process group calls this.

    Args:
        lock: the lock of the run's folder, which the caller holds and releases. None: nobody else writes there.
        stop: reasons to stop that come from outside. None: there are none.
        rank_watchdog: watches the other ranks. None: nothing does.

    Returns:
        the exit status.
    """
    from mmae.engine.telemetry.run_exit import RunEnd
    from mmae.run.locking.lock import held_or_not

    with held_or_not(lock) as held, RunEnd(spec, watched=rank_watchdog is not None and rank_watchdog.watches) as end:
        return _train(spec, end, held, stop, rank_watchdog)


def _train(spec: RunSpec, end: RunEnd, lock: RunLock, stop: Stop | None, rank_watchdog: Watchdog | None) -> int:  # noqa: PLR0912, PLR0915 (one story, told in one place)
    import torch.distributed as dist

    from mmae.config.score_names import of_average, probes_average
    from mmae.data.loading.device_prefetch import on_device
    from mmae.data.loading.loader import train_batches
    from mmae.data.transforms.preprocess import Preprocess
    from mmae.distributed import watchdog
    from mmae.engine import stop_signals
    from mmae.engine.average.weight_average import start_average
    from mmae.engine.build import build_engine
    from mmae.engine.checkpoint import load, resume
    from mmae.engine.checkpoint.contents.rng_state import generators_kept
    from mmae.engine.checkpoint.save import Saver
    from mmae.engine.nonfinite import NonFiniteHandler
    from mmae.engine.step import optimiser_step, prepare_step
    from mmae.engine.telemetry import console_report
    from mmae.engine.telemetry.run_exit import write_end
    from mmae.engine.telemetry.run_log import RunLog
    from mmae.engine.telemetry.step_observer import StepObserver
    from mmae.engine.validate import validate_split
    from mmae.evaluate.in_loop.probes import in_loop_probes
    from mmae.evaluate.pictures.val_pictures import ValPictures
    from mmae.run import restart
    from mmae.run.parent import note_parent

    config, folder, rank = spec.config, spec.folder, dist.get_rank()
    stop = stop or stop_signals.Stop(folder.path, rank, None)
    rank_watchdog = rank_watchdog or watchdog.Watchdog.none()

    # 1. Probes, and the checkpoint to resume from. What cannot be used is refused before anything is built.
    probes = in_loop_probes(spec) if config.eval.every else None
    found = resume.find(spec)

    # 2. The engine, and what the checkpoint holds. Only a start that has come this far writes into the run's folder.
    engine = build_engine(config, spec.ds_config, load_initial=found is None, trust=spec.trust)
    loaded = load.load(engine, spec, found) if found else load.LoadResult(0)
    average = start_average(engine, config.train, found.path if found else None)
    first = step = loaded.step
    if rank == 0:
        if spec.fresh or spec.resume is not None:
            restart.note_followed(folder.path, os.environ)
        folder.write_configs(config, spec.ds_config, spec.band_stats)
        note_parent(folder.path, found.path if found else None)
    dist.barrier()
    log = RunLog(folder.log_file, config, rank, step)
    observer = StepObserver(spec, engine, log, rank, step, rank_watchdog)
    clock = observer.clock
    end.open(log, observer)
    rank_watchdog.record_by(partial(write_end, folder.log_file))
    nonfinite = NonFiniteHandler(engine, spec, rank)
    restarted = average is not None and average.restarted
    console_report.announce(log, spec, engine, found, loaded, observer.records.device_peak, restarted)
    saver = Saver(engine, spec, found.path if found else None, lock, average)

    # 3. The data. Where the run stands in them follows from the step.
    preprocess = Preprocess(config.data, config.model, spec.band_stats, engine.device)
    read = train_batches(
        spec.tiles,
        config.model.domains,
        config.data,
        seed=config.train.tiles_seed,
        order=spec.order,
        split=spec.split,
        rank=rank,
        start_step=step,
        stop_step=spec.stop,
        pin=engine.device.type == "cuda",
    )
    batches = on_device(read, engine.device, ahead=spec.split.accumulation)
    losses: console_report.Losses = {}
    validated: Validation | None = None

    # 4. The loop.
    asked = stop.agree_now(engine.device)
    while step < spec.stop and not asked:
        # 4.1 One optimiser step. The first two may compile, so the watchdog counts them as the start.
        rank_watchdog.at(step, "data" if step >= first + 2 else "start")
        observer.begins(step + 1)
        micro_batches = clock.take(batches, spec.split.accumulation)
        rank_watchdog.at(step, "step" if step >= first + 2 else "start")
        prepared = prepare_step(micro_batches, preprocess, config)
        observer.takes(step + 1, micro_batches, prepared)
        stats = optimiser_step(engine, prepared, config, stop.wanted(engine.device))
        step += 1
        skipped = nonfinite.after_step(step, stats, micro_batches)
        if average is not None:
            average.update(skipped)

        # 4.2 What is due after this step.
        last = step == spec.stop
        validates = last or bool(config.val.every and step % config.val.every == 0)
        evaluates = probes is not None and (last or step % config.eval.every == 0)
        saves = last or step % config.checkpoint.every == 0
        observer.made(step, stats, skipped, nonfinite.skipped, wanted=last or step % config.log.every == 0)

        # 4.3 Values are read some steps later, but never after a validation, probes or a checkpoint of the same step.
        pauses = validates or evaluates or saves
        agreed = nonfinite.agreed(step, everything=pauses)
        asked = stop_signals.names(agreed.wanted_R)
        everything = pauses or bool(asked)
        losses = console_report.train_records(log, observer.read(step, everything=everything)) or losses
        if agreed.bad >= config.train.max_bad_steps:
            console_report.train_records(log, observer.read(step, everything=True))
            console_report.save_records(log, saver.finish())
            console_report.lost_numbers(log, step, nonfinite.despair(step, saver.last))
            return EXIT_LOST_NUMBERS

        # 4.4 Validation.
        scores: dict[str, float] = {}
        if validates and (last or not asked):
            stop.doing = "validating"
            pictures = ValPictures(engine.module, config.model, config.log.pictures if rank == 0 else 0)
            with clock.paused("val") as pause, rank_watchdog.during(step, "validate"), log.pause(stop.doing):
                validated = validate_split(engine, spec, preprocess, observer.damage, step, pictures)
                drawn = pictures.draw(folder.pictures / f"step_{step}.png", log.say)
            averaged: Validation | None = None
            if average is not None and validated is not None and not validated.diverged:
                with clock.paused("val"), rank_watchdog.during(step, "validate"), generators_kept(), average.shown():
                    averaged = validate_split(engine, spec, preprocess, None, step)
            if validated is not None:
                console_report.validation(log, step, validated, pause.seconds, averaged)
                nonfinite.validated(step, validated)
                log.picture(step, drawn)
                scores |= validated.scores | of_average(averaged.scores if averaged is not None else {})
                if validated.diverged:
                    console_report.save_records(log, saver.finish())
                    console_report.lost_numbers(log, step, nonfinite.divergence(step, validated.diverged, saver.last))
                    return EXIT_LOST_NUMBERS

        # 4.5 Probes of the encoder. A failure is recorded, and training goes on.
        if probes is not None and evaluates and (last or not asked):
            stop.doing = "probing the encoder"
            with clock.paused("eval") as pause, rank_watchdog.during(step, "evaluate"), log.pause(stop.doing):
                probed = probes.evaluate(engine)
                probed_average: Probed | None = None
                if average is not None and probes_average(config):
                    with average.shown():
                        probed_average = probes.evaluate(engine)
            console_report.probes(log, step, probed, pause.seconds, probed_average)
            scores |= probed.named | of_average(probed_average.named if probed_average is not None else {})

        # 4.6 A checkpoint, where one is due, and of a new best.
        if saves or asked or saver.is_new_best(scores):
            stop.doing = "saving"
            with clock.paused("save") as pause, rank_watchdog.during(step, "save"):
                ended = saver.save(step, scores)
                ended += saver.finish() if last or asked else []
            console_report.save_records(log, ended)
            stop.saved(pause.seconds)
        stop.doing = "finishing the step"

    # 5. The end: the last records, and one line of JSON.
    rank_watchdog.at(step, "end")
    losses = console_report.train_records(log, observer.read(step, everything=True)) or losses
    if step > first:
        saver.must_have(step)
    why = "finished" if step == config.train.max_steps else "stopped"
    log.write("end", step=step, why=why, reasons=asked)
    if asked and step < spec.stop:
        log.say(stop_signals.how_to_go_on(step, saver.last, asked, spec.split.world, folder.checkpoints))
    stop.obeyed(asked)
    log.close()
    engine.destroy()
    console_report.finished(log, spec, step, saver.last, validated)
    if rank == 0:
        val_losses = validated.losses if validated else {}
        print(console_report.closing_line(spec, step, saver.last, losses, val_losses), flush=True)
    # A training that was asked to stop can go on, whatever an earlier validation found.
    return EXIT_LOST_NUMBERS if validated and validated.lost and step == spec.stop else 0


def main(argv: list[str] | None = None) -> int:
    """Entry point of `--module mmae.train`: one rank of a training. Later interrupts make it save and stop."""
    parser = Parser(prog="mmae train", description=__doc__)
    add_arguments(parser)
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: run(parse(parser, words)), say=say_on_node)


if __name__ == "__main__":
    raise SystemExit(main())

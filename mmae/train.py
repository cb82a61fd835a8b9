"""Train a MultiMAE, or go on training one. Reads from top to bottom: plan, engine, resume, data, loop.

    bash launchers/single_node.sh --config vit_l --deepspeed_config zero1 data.shards=SHARDS

Ends with one JSON line: run_dir, step, tiles_seen, losses, checkpoint. Exit status: 0 done or stopped well, 1 an error,
2 bad input, 3 lost numbers (too many steps in a row whose loss or gradient is not finite, or a validation that is not),
4 lost rank.
SIGTERM, SIGINT and SIGUSR1 save and stop; so does a file `stop` in the run's folder.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from typing import TYPE_CHECKING

from mmae.edge import Parser, ending, guarded, parse
from mmae.error_line import say_error
from mmae.errors import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_LOST_NUMBERS, DoesNotFitError
from mmae.ownership import add_trust_argument, write_as_own
from mmae.recipe_arguments import add_recipe_arguments, recipe_of

if TYPE_CHECKING:
    from mmae.engine.heartbeat import Heartbeat
    from mmae.engine.plan import Plan
    from mmae.engine.run_end import RunEnd
    from mmae.engine.run_lock import RunLock
    from mmae.engine.stopping import Stop
    from mmae.engine.validate import Validation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument(
        "--deepspeed_config", default="zero1", metavar="JSON", help="packaged name (zero1, zero2) or JSON file"
    )
    parser.add_argument("--resume", metavar="PATH", help="go on from this checkpoint, or from the newest of this run")
    parser.add_argument("--fresh", action="store_true", help="begin anew; what run.dir holds is set aside within it")
    add_trust_argument(parser, "a run, recipe or model")
    parser.add_argument("--local_rank", type=int, help=argparse.SUPPRESS)  # launchers pass it; LOCAL_RANK says it too


def run(args: argparse.Namespace) -> int:
    # Imports stand behind argument parsing: help answers at once, and bad input is refused before seconds of imports.
    from mmae.engine.chatter import Chatter, let_libraries_speak
    from mmae.engine.devices import take_given
    from mmae.engine.distributed import join, leave, world_size
    from mmae.engine.launch_environment import check_launch
    from mmae.engine.launcher_process import end_with_launchers
    from mmae.engine.one_node import meet_here

    end_with_launchers()
    check_launch(os.environ)
    take_given(os.environ)
    meet_here(os.environ)
    world = world_size()

    # Who is alone need not wait for torch to hear of bad input.
    planned = _plan(args, world) if world == 1 else None
    from mmae.engine.heartbeat import Heartbeat
    from mmae.engine.roll_call import RollCall
    from mmae.engine.stopping import Stop

    with Chatter() as chatter, RollCall(world) as roll:
        plan = planned or roll.answer(lambda: _plan(args, world))
        chatter.verbose = plan.config.log.verbose
        from mmae.addresses import hide_in_words
        from mmae.engine.logging import quiet_libraries
        from mmae.engine.run_end import was_said
        from mmae.engine.run_lock import held
        from mmae.engine.trackers import any_left_behind

        # Whatever looks at them from here on (trackers do) writes them down or sends them on.
        sys.argv[1:] = hide_in_words(sys.argv[1:])
        # Or the next start would take it for what somebody else may have written.
        write_as_own()
        quiet_libraries()
        _announce_builds()
        rank, limits = join(), plan.config.train
        let_libraries_speak(chatter.verbose)
    status = EXIT_BAD_INPUT
    try:
        with (
            held(plan.folder.path) as lock,
            Stop(plan.folder.path, rank, limits.max_hours) as stop,
            Heartbeat(rank, world, limits.rank_timeout) as beat,
        ):
            status = train(plan, lock, stop, beat)
    except Exception as error:
        ended, status = ending(error), EXIT_FAILED
        if ended is not None:
            status = ended.status
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


def _plan(args: argparse.Namespace, world: int) -> Plan:
    from mmae.engine.devices import check_own_devices
    from mmae.engine.plan import plan_run

    recipe, overrides = recipe_of(args)
    plan = plan_run(recipe, args.deepspeed_config, overrides, world, args.trust, args.resume, args.fresh)
    check_own_devices(os.environ)
    return plan


def train(plan: Plan, lock: RunLock | None = None, stop: Stop | None = None, beat: Heartbeat | None = None) -> int:
    """Train to the end, to `train.stop_at`, or until asked to stop. Every rank of the process group calls this.

    Args:
        lock: of the run's folder, held by the caller, who lets it go; None: nobody else writes there.
        stop: reasons to stop that come from outside; None: there are none.
        beat: watches the ranks; None: nobody does.

    Returns:
        the exit status.
    """
    from mmae.engine.run_end import RunEnd
    from mmae.engine.run_lock import held_or_not

    with held_or_not(lock) as held, RunEnd(plan, watched=beat is not None and beat.watches) as end:
        return _train(plan, end, held, stop, beat)


def _train(plan: Plan, end: RunEnd, lock: RunLock, stop: Stop | None, beat: Heartbeat | None) -> int:  # noqa: PLR0915 (one story, told in one place)
    import torch.distributed as dist

    from mmae.data.loader import train_batches
    from mmae.data.prefetch import on_device
    from mmae.data.preprocess import Preprocess
    from mmae.engine import checkpoint, first_start, heartbeat, report, resume, stopping
    from mmae.engine.build import build_engine
    from mmae.engine.clock import Clock
    from mmae.engine.damage import DamageLog
    from mmae.engine.guard import Guard
    from mmae.engine.logging import RunLog
    from mmae.engine.profile import StepProfile
    from mmae.engine.records import StepRecords
    from mmae.engine.sample_log import SampleLog
    from mmae.engine.saving import Saver
    from mmae.engine.step import optimiser_step, prepare_step
    from mmae.engine.val_pictures import ValPictures
    from mmae.engine.validate import validate_split

    config, folder, rank = plan.config, plan.folder, dist.get_rank()
    stop = stop or stopping.Stop(folder.path, rank, None)
    beat = beat or heartbeat.Heartbeat.none()

    # 1. The checkpoint to go on from: refused before anything is built if it does not fit.
    found = resume.find(plan)

    # 2. The engine; then, if there is a checkpoint, everything it holds. Only what got so far writes into the folder.
    engine = build_engine(config, plan.ds_config, load_initial=found is None, trust=plan.trust)
    loaded = checkpoint.load(engine, plan, found) if found else checkpoint.Loaded(0)
    step = loaded.step
    if rank == 0:
        if plan.fresh or plan.resume is not None:
            first_start.note_followed(folder.path, os.environ)
        folder.write_configs(config, plan.ds_config, plan.band_stats)
    dist.barrier()
    log = RunLog(folder.log_file, config, rank, step)
    samples = SampleLog(folder.path, rank, config.log.samples)
    damage = DamageLog(folder.path, rank)
    clock = Clock(step)
    records = StepRecords(plan, engine, clock, damage)
    profile = StepProfile(folder.profiles, config.train.profiled if rank == 0 else None, log.say)
    end.open(log, records, profile)
    beat.record_in(folder.log_file)
    guard = Guard(engine, plan, rank)
    report.announce(log, plan, engine, found, loaded, records.device_peak)
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
    losses: report.Losses = {}
    validated: Validation | None = None
    first = step

    # 4. The loop.
    asked = stop.agree_now(engine.device)
    while step < plan.stop and not asked:
        # The first steps may compile.
        beat.at(step, "data" if step >= first + 2 else "start")
        profile.before(step + 1)
        micro_batches = clock.take(batches, plan.split.accumulation)
        beat.at(step, "step" if step >= first + 2 else "start")
        damage.write(step + 1, micro_batches)
        prepared = prepare_step(micro_batches, preprocess, config)
        samples.write(step, micro_batches, prepared)
        records.before()
        stats = optimiser_step(engine, prepared, config, stop.wanted(engine.device))
        step += 1
        skipped = guard.after_step(step, stats, micro_batches)
        last = step == plan.stop
        validates = last or bool(config.val.every and step % config.val.every == 0)
        saves = last or step % config.checkpoint.every == 0
        records.add(step, stats, skipped, guard.skipped, wanted=last or step % config.log.every == 0)
        if config.train.profiled and step == config.train.profiled[1]:
            # Writing a trace may take longer than a step.
            beat.at(step, "save")
        profile.after(step)
        # Read late, but never behind what a validation or a checkpoint says of the same step.
        losses = report.train_records(log, records.drain() if validates or saves else records.due(step)) or losses
        agreed = guard.drain() if validates or saves else guard.agreed(step)
        if agreed.bad >= config.train.max_bad_steps:
            report.train_records(log, records.drain())
            report.save_records(log, saver.finish())
            report.lost_numbers(log, step, guard.despair(step, saver.last))
            return EXIT_LOST_NUMBERS
        asked = stopping.names(agreed.wanted_R)
        if validates and (last or not asked):
            stop.doing = "validating"
            pictures = ValPictures(engine.module, config.model, config.log.pictures if rank == 0 else 0)
            with clock.paused("val") as pause, beat.during(step, "validate"):
                validated = validate_split(engine, plan, preprocess, damage, step, pictures)
                drawn = pictures.draw(folder.pictures / f"step_{step}.png", log.say)
            if validated is not None:
                report.validation(log, step, validated, pause.seconds)
                guard.validated(step, validated)
                log.picture(step, drawn)
                if validated.diverged:
                    report.save_records(log, saver.finish())
                    report.lost_numbers(log, step, guard.divergence(step, validated.diverged, saver.last))
                    return EXIT_LOST_NUMBERS
        if saves or asked:
            stop.doing = "saving"
            with clock.paused("save") as pause, beat.during(step, "save"):
                ended = saver.save(step)
                ended += saver.finish() if last or asked else []
            report.save_records(log, ended)
            stop.saved(pause.seconds)
        stop.doing = "finishing the step"

    beat.at(step, "end")
    losses = report.train_records(log, records.drain()) or losses
    if step > first:
        saver.must_have(step)
    why = "finished" if step == config.train.max_steps else "stopped"
    log.write("end", step=step, why=why, reasons=asked)
    if asked and step < plan.stop:
        log.say(stopping.how_to_go_on(step, saver.last, asked, plan.split.world, folder.checkpoints))
    stop.obeyed(asked)
    samples.close()
    log.close()
    engine.destroy()
    if rank == 0:
        val_losses = validated.losses if validated else {}
        print(report.closing_line(plan, step, saver.last, losses, val_losses), flush=True)
    # A stop that was asked for is one to go on after, whatever an earlier validation found.
    return EXIT_LOST_NUMBERS if validated and validated.lost and step == plan.stop else 0


def _announce_builds() -> None:
    from mmae.engine.distributed import is_local_main
    from mmae.engine.op_build import announce_builds

    if is_local_main():
        announce_builds(lambda line: print(f"mmae: {line}", file=sys.stderr, flush=True))


def _say(error: BaseException, line: str) -> None:
    from mmae.engine.distributed import is_local_main

    # Every rank meets the same bad input; one line a node is enough.
    if is_local_main() or isinstance(error, DoesNotFitError):
        say_error(line)


def main(argv: list[str] | None = None) -> int:
    """Entry of `--module mmae.train`: one rank of a training. An interrupt that comes later is answered by a save."""
    parser = Parser(prog="mmae train", description=__doc__)
    add_arguments(parser)
    words = sys.argv[1:] if argv is None else argv
    return guarded(lambda: run(parse(parser, words)), say=_say)


if __name__ == "__main__":
    raise SystemExit(main())

"""One fine-tuning, from top to bottom: resume, model, data, loop, and the test, which is looked at once, at the end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed as dist
from accelerate import Accelerator

from mmae.config.score_names import LOWER
from mmae.data.loading.device_prefetch import on_device
from mmae.data.sampling.shard_sets import needed_datasets
from mmae.distributed.collectives import on_rank_0
from mmae.engine import stop_signals
from mmae.engine.optim import cosine_factor
from mmae.engine.telemetry.run_exit import RunEnd, write_end
from mmae.engine.telemetry.run_log import RunLog, record_save
from mmae.errors import EXIT_LOST_NUMBERS
from mmae.finetune.labelled.census import census_table
from mmae.finetune.labelled.sample_picture import write_sample_picture
from mmae.finetune.labelled.tile_reading import scoring_batches, tuning_batches
from mmae.finetune.labelled.tuning_samples import SampleMaker
from mmae.finetune.model.parameter_groups import parameter_groups
from mmae.finetune.model.save_finetuned import save_finetuned
from mmae.finetune.scoring.task_scores import MAIN, Scorer, TaskScores
from mmae.finetune.start.start_model import StartModel, start_model
from mmae.finetune.training import tuning_records
from mmae.finetune.training.averaged_weights import AveragedWeights, Best
from mmae.finetune.training.mixing import augmented, check_mixing
from mmae.finetune.training.objectives import Objective
from mmae.finetune.training.tuning_checkpoint import Learner, TuningSaver, TuningState, load_learner
from mmae.finetune.training.tuning_records import TuningObserver
from mmae.finetune.training.tuning_resume import find_resume_point, own_recipe
from mmae.finetune.training.tuning_step import score_pass, tuning_step
from mmae.run.log_reader import END

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from mmae.distributed.watchdog import Watchdog
    from mmae.engine.stop_signals import Stop
    from mmae.finetune.start.tuning_spec import TuningSpec
    from mmae.run.locking.lock import RunLock
    from mmae.types import Batch


_MODULE: Final = "mmae.finetune.command"
"""What launchers start."""


@dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        status: the exit status.
        step: the last one.
        ended: the schedule is complete, or a stop came early because nothing got better.
        asked: reasons to stop that came from outside.
        loss: of the last step; None where this start made none.
        best: step and score of the best validation.
        checkpoint: the newest one.
    """

    status: int
    step: int
    ended: bool
    asked: tuple[str, ...]
    loss: float | None
    best: tuple[int, float | None]
    checkpoint: Path | None


class TuningRun:
    """A fine-tuning on this rank. Every rank of the process group has one, and calls the same methods."""

    def __init__(self, spec: TuningSpec, lock: RunLock | None, stop: Stop, watchdog: Watchdog) -> None:
        self.spec, self._lock, self._stop, self._watchdog = spec, lock, stop, watchdog
        config = self._config = spec.config
        self._rank = dist.get_rank()
        self._accelerator = Accelerator(mixed_precision="no", cpu=not torch.cuda.is_available())
        self._bf16 = config.train.precision == "bf16"
        self.device: torch.device = self._accelerator.device
        self.start: StartModel = start_model(config, spec.labelled, spec.trust)
        check_mixing(config.train, self.start.config.in_domains)
        self._make = SampleMaker(
            config.data.loading,
            self.start.config,
            self.start.band_stats,
            spec.labelled.source,
            self.device,
            self.start.built.model.tokenizer.table,
            spec.labelled.each.bands,
        )
        self._objective = Objective(spec.labelled.task, config.task, spec.labelled.census["train"], self.device)
        inputs = needed_datasets(spec.labelled.each.index, self.start.config.in_domains)
        self._datasets = tuple(dict.fromkeys((*inputs, *spec.labelled.source.datasets)))

    def train(self, end: RunEnd) -> Outcome:  # noqa: PLR0912, PLR0915 (one story, told in one place)
        """Train to the end, to `train.stop_at`, or until asked to stop."""
        spec, config, train, rank = self.spec, self._config, self._config.train, self._rank
        task = spec.labelled.task

        # 1. The checkpoint to go on from, and the model as it was there.
        found = find_resume_point(spec, self.start.band_stats)
        model = self.start.built.model.to(self.device)
        groups = parameter_groups(model, train.weight_decay, train.layer_decay)
        optimizer = torch.optim.AdamW(groups, lr=train.lr, betas=train.opt_betas)
        learner = Learner(
            model, optimizer, AveragedWeights(model, train.ema), Best(higher=MAIN[task.kind] not in LOWER)
        )
        step = skipped = in_row = 0
        if found is not None:
            path, state = found
            load_learner(path, state, learner)
            step, skipped, in_row = state.step, state.skipped, state.skipped_in_row
        first, best = step, learner.best
        wrapped = self._accelerator.prepare_model(model)

        # 2. The run's folder. Only a start that has come this far writes into it.
        recipe = own_recipe(config)
        stats = dict(self.start.band_stats)
        on_rank_0(lambda: spec.folder.write_recipe(recipe, stats))
        self._log = log = RunLog(spec.folder.log_file, config, rank, step)
        tiles = spec.tiles()
        observer = TuningObserver(spec, log, self.device, step, tiles.order(train.global_batch).steps_per_epoch)
        end.open(log, observer)
        self._watchdog.record_by(partial(write_end, spec.folder.log_file))
        learning = sum(each.numel() for each in model.parameters() if each.requires_grad)
        parameters = sum(each.numel() for each in model.parameters()), learning
        tuning_records.announce(log, spec, self._lines(), str(found[0]) if found else "", step, parameters)
        saver = TuningSaver(spec.folder.checkpoints, recipe, stats, config.checkpoint.keep_last, self._lock)
        saver.last = found[0] if found else None

        # 3. The data. Where the run stands in them follows from the step.
        mixes = bool(train.mixup or train.cutmix)
        read = tuning_batches(
            tiles,
            self._datasets,
            config.data.loading,
            seed=train.seed,
            split=spec.split,
            rank=rank,
            start_step=step,
            stop_step=spec.stop,
            partners=mixes,
            pin=self.device.type == "cuda",
        )
        batches = on_device(read, self.device, ahead=spec.split.accumulation)
        loss: float | None = None

        # 4. The loop.
        asked = self._stop.agree_now(self.device)
        while step < spec.stop and not asked and not self._gave_up(best):
            # 4.1 One optimiser step.
            self._watchdog.at(step, "data" if step >= first + 2 else "start")
            micro_batches = observer.clock.take(batches, spec.split.accumulation)
            self._watchdog.at(step, "step" if step >= first + 2 else "start")
            samples = [self._make(batch, train=True) for batch in micro_batches]
            mixed = [augmented(each, train, self.start.config.patch_size, mixes) for each in samples]
            if step == 0:
                self._draw_samples(mixed[0].samples)
            lr = train.lr * cosine_factor(step, train)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["lr_scale"]
            wanted_R = self._stop.wanted(self.device)
            result = tuning_step(
                wrapped, optimizer, self._objective, self._accelerator, mixed, train.clip_grad, wanted_R, self._bf16
            )
            step += 1
            loss = result.loss if result.loss is not None else loss
            asked = stop_signals.names(result.wanted_R)
            if result.updated:
                learner.average.update(step)
            skipped, in_row = (skipped, 0) if result.updated else (skipped + 1, in_row + 1)
            last = step == spec.stop
            observer.made(step, result, lr, skipped, wanted=last or step % config.log.every == 0)
            if in_row >= train.max_bad_steps:
                return self._lost_numbers(log, step, in_row, saver.last, best)

            # 4.2 Validation.
            # Also where a stop is asked for: a run that goes on must have had the same validations.
            if step == train.max_steps or (config.val.every and step % config.val.every == 0):
                self._stop.doing = "validating"
                with (
                    observer.clock.paused("val") as pause,
                    self._watchdog.during(step, "validate"),
                    log.pause(self._stop.doing),
                    learner.average.applied(),
                ):
                    val_loss, scores = self.score(model, spec.labelled.splits.val)
                    better = best.offer(step, scores.main(task), model)
                tuning_records.validation(log, step, task.name, task.kind, val_loss, scores, better, pause.seconds)

            # 4.3 A checkpoint.
            if last or step % config.checkpoint.every == 0 or asked or self._gave_up(best):
                self._stop.doing = "saving"
                state = TuningState(
                    step,
                    spec.labelled.each.index.fingerprint,
                    spec.labelled.identity,
                    skipped,
                    in_row,
                    best.step,
                    best.score,
                    best.without,
                )
                with observer.clock.paused("save") as pause, self._watchdog.during(step, "save"):
                    saved = saver.save(learner, state)
                record_save(log, saved)
                self._stop.saved(pause.seconds)
            self._stop.doing = "finishing the step"

        # 5. The end of training.
        self._watchdog.at(step, "end")
        if step > first:
            saver.must_have(step)
        ended = step == train.max_steps or self._gave_up(best)
        if ended:
            best.apply(model)
        if self._gave_up(best):
            log.say(f"step {step}: ends early, {best.without} validations after the best one (step {best.step})")
        if asked and not ended:
            own = spec.folder.checkpoints
            log.say(stop_signals.how_to_go_on(step, saver.last, asked, spec.split.world, own, _MODULE))
        if not ended:
            self.conclude(step, "stopped", asked)
        return Outcome(0, step, ended, asked, loss, (best.step, best.score), saver.last)

    def score(self, model: Any, positions: NDArray[np.int64], *takers: Any) -> tuple[float | None, TaskScores]:
        """Loss and scores of the tiles at some positions. Collective.

        Args:
            takers: also get each batch's predictions (see `score_pass`).
        """
        task, loading = self.spec.labelled.task, self._config.data.loading
        scorer = Scorer(task, self.device)
        read = scoring_batches(
            self.spec.labelled.each,
            positions,
            self._datasets,
            loading,
            split=self.spec.split,
            rank=self._rank,
            pin=self.device.type == "cuda",
        )

        def take(predicted: Any, samples: Any, batch: Batch) -> None:
            scorer.update(predicted, samples.labels, samples.inputs.real_B)
            for each in takers:
                each(predicted, samples, batch)

        batches = on_device(read, self.device)
        loss = score_pass(model, task, self._accelerator, batches, self._make, self._objective, take, self._bf16)
        return loss, scorer.compute()

    def conclude(self, step: int, why: str, reasons: tuple[str, ...] = (), test: dict[str, Any] | None = None) -> None:
        """Write the last records.

        Args:
            test: the scores of the test tiles, if they were looked at.
        """
        if test is not None:
            self._log.write("test", step=step, **test)
        self._log.write(END, step=step, why=why, reasons=reasons)
        self._log.close()

    def save_model(self, folder: Path, notes: dict[str, Any]) -> None:
        """Write the model, which has the best weights, into a folder that is new or empty. Collective."""
        built = self.start.built
        on_rank_0(lambda: save_finetuned(folder, built.model, self.start.band_stats, built.origin, notes))

    def _gave_up(self, best: Best) -> bool:
        patience = self._config.val.patience
        return patience is not None and best.without >= patience

    def _lines(self) -> Iterator[str]:
        labelled = self.spec.labelled
        splits = labelled.splits
        yield (
            f"{len(splits.train)} training tiles, {len(splits.val)} to choose by ({splits.val_name}), "
            f"{len(splits.test)} to test ({splits.test_name})"
        )
        yield from census_table(labelled.task, labelled.census).text().splitlines()
        yield from labelled.notes
        yield from self.start.lines(labelled)

    def _draw_samples(self, samples: Any) -> None:
        """The picture of the first batch; a disk that takes no picture does not end the training."""
        if self._rank == 0:
            path = self.spec.folder.pictures / "samples.png"
            try:
                write_sample_picture(path, samples, self.spec.labelled.task, self.spec.labelled.source)
            except OSError as error:
                self._log.say(f"{path}: cannot be written ({error.strerror}); training goes on")

    def _lost_numbers(self, log: RunLog, step: int, in_row: int, last: Path | None, best: Best) -> Outcome:
        log.say_error(
            f"lost numbers: {in_row} steps in a row had a loss or gradient that is not finite: use a lower train.blr, "
            f"or look at the labels; the last checkpoint is {last or 'none'}"
        )
        self.conclude(step, "lost numbers")
        return Outcome(EXIT_LOST_NUMBERS, step, False, (), None, (best.step, best.score), last)

"""What `mmae bench step` compares: the step as training runs it, and a plain step."""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median_high
from typing import Any

import torch

from mmae.bench.step.peak_memory import in_use, peak_during
from mmae.bench.step.phases import drop_gradients, part_runs, seconds, timed
from mmae.bench.step.plain_model import PlainMultiMAE
from mmae.bench.step.step_batch import made_up_band_stats, made_up_batch
from mmae.config.schema import Config
from mmae.data.transforms.preprocess import Preprocess
from mmae.engine.build import build_engine
from mmae.engine.gpu_options.float8_linears import use_float8
from mmae.engine.module import PretrainModule, compile_parts
from mmae.engine.step import optimiser_step, prepare_step
from mmae.losses import combine, sample_losses, scored


class Trained:
    """Training's own step on one micro-batch that lies on the device."""

    def __init__(self, config: Config, ds_config: dict[str, Any], micro_batch: int) -> None:
        self.config = config
        before = in_use(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.engine = build_engine(config, ds_config, load_initial=False)
        self.device: torch.device = self.engine.device
        self._preprocess = Preprocess(self.config.data, self.config.model, made_up_band_stats(), self.device)
        self._batches = [made_up_batch(self.config.model.domains, micro_batch).to(self.device)]
        self._before = before

    def prepare(self) -> Any:
        return prepare_step(self._batches, self._preprocess, self.config)

    def __call__(self) -> None:
        optimiser_step(self.engine, self.prepare(), self.config)

    def peak_gigabytes(self) -> float | None:
        """The most memory in use during a step, in GB, without what was in use before this variant was built."""
        self()
        peak = peak_during(self, self.device)
        return None if peak is None else (peak - self._before) / 1e9

    def parts(self, repeats: int) -> dict[str, float]:
        """Seconds of each part of a step, run on a separate model without DeepSpeed's hooks."""
        (inputs, plan), *_ = self.prepare()
        count_O = scored(inputs, plan, self.config.model).sum(1).float()
        recompute = self.engine.module.model.encoder.recompute
        dtype = next(self.engine.module.parameters()).dtype
        module = PretrainModule(self.config.model, None, recompute).to(self.device, dtype)
        use_float8(module, self.config.train, len(plan.keep_BK))
        if self.config.train.compile:
            compile_parts(module)
        taken = {"data": seconds(self.prepare, self.device, repeats)}
        for name, run in part_runs(module, inputs, plan, count_O).items():
            taken[name] = seconds(run, self.device, repeats)
            drop_gradients(module)
        return taken

    def optimiser(self, repeats: int) -> float:
        """Seconds of a step that the optimiser takes."""
        taken: list[float] = []
        engine: Any = self.engine
        step = engine.step

        engine.step = lambda: taken.append(timed(step, self.device))
        for _ in range(repeats):
            self()
        engine.step = step
        return median_high(taken)

    def close(self) -> None:
        self.engine.destroy()
        del self.engine
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def plain_step(config: Config, micro_batch: int, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """The same step in plain torch: float32 weights, autocast, one decoder after another, AdamW."""
    model = PlainMultiMAE(config.model, config.model.variant).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=config.train.opt_betas)
    preprocess = Preprocess(config.data, config.model, made_up_band_stats(), device)
    batches = [made_up_batch(config.model.domains, micro_batch).to(device)]

    def step() -> None:
        ((inputs, plan),) = prepare_step(batches, preprocess, config)
        count_O = scored(inputs, plan, config.model).sum(1).float()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            output = model(inputs.values, plan)
        loss_OB = sample_losses(output, inputs, plan, config.model)
        torch.autograd.backward([combine(loss_OB, count_O, 1.0)[0]])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step

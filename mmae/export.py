"""`mmae export RUN OUT`: a run's ZeRO checkpoint as a model folder that needs no DeepSpeed."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder (run.dir)")
    parser.add_argument("out", metavar="OUT", help="folder to write: model.safetensors and config.json")
    parser.add_argument("--step", type=int, help="checkpoint to export; the latest if not said")
    parser.add_argument("--trust", action="store_true", help="load a checkpoint that another user wrote")


def run(args: argparse.Namespace) -> int:
    from mmae.engine.run_folder import open_run

    # Before seconds of imports.
    open_run(args.run)
    from mmae.engine.consolidate import load_trained
    from mmae.model.folder import save_model

    trained = load_trained(args.run, args.step, args.trust)
    extra = {"run": str(trained.folder.path), "step": trained.step}
    if trained.log_vars is not None:
        extra["log_vars"] = dict(zip(trained.config.model.outputs, trained.log_vars.tolist(), strict=True))
    save_model(Path(args.out), trained.model, trained.band_stats, extra)
    print(
        f"{args.out}: step {trained.step}, {sum(p.numel() for p in trained.model.parameters()):,} parameters, float32"
    )
    return 0

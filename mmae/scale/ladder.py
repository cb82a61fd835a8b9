"""`mmae ladder RECIPE --sizes nano,micro,tiny --budgets 2k,4k,8k --out DIR`: what will the next size reach?

It trains each size on each number of tiles, and fits a law to the validation losses. `mmae plan --ladder DIR` predicts.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmae.config.recipe_arguments import add_recipe_arguments, recipe_of
from mmae.disk.ownership import add_trust_argument
from mmae.errors import InputError

if TYPE_CHECKING:
    from mmae.scale.rungs import LadderPlan, RungPlan
    from mmae.scaling_law.fit_checks import HeldOut
    from mmae.scaling_law.law_fit import Fit
    from mmae.terminal.table import Table

SCRIPT: Final = "ladder.sbatch"
_LAUNCHERS: Final = "launchers"
_LOCK: Final = ".ladder.lock"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.add_argument("--sizes", required=True, metavar="LIST", help="sizes of the encoder: nano,micro,tiny")
    parser.add_argument("--budgets", required=True, metavar="LIST", help="tiles of a run: 2k,4k,8k or 0.5M,1M,2M")
    parser.add_argument("--out", required=True, metavar="DIR", help="the ladder's folder; the same again goes on")
    parser.add_argument("--dry-run", action="store_true", help="print the runs and their cost, and stop")
    parser.add_argument("--slurm", action="store_true", help=f"write DIR/{SCRIPT}, a job array, instead of starting")
    parser.add_argument("--deepspeed_config", default="zero1", metavar="JSON", help="packaged name or JSON file")
    add_trust_argument(parser, "a recipe or run")


def run(args: argparse.Namespace) -> int:
    """Exit status 0; bad input, and a run that failed, are an InputError."""
    from mmae.scale.rungs import check_same, plan_ladder
    from mmae.scaling_law.ladder_file import LADDER, read_ladder
    from mmae.scaling_law.law_fit import too_few

    out = Path(args.out)
    recipe, overrides = recipe_of(args)
    plan = plan_ladder(recipe, overrides, args.sizes, args.budgets, out, args.deepspeed_config, args.trust)
    before = read_ladder(out) if (out / LADDER).is_file() else None
    if before is not None:
        check_same(plan, before.recipe, out)
    elif out.exists() and (not out.is_dir() or not all(map(_is_left_behind, out.iterdir()))):
        raise InputError(f"{out}: holds something, but no ladder (no {LADDER}): choose another --out")
    runs = {(each.parameters, each.tiles) for each in plan.rungs}
    runs |= {(each.parameters, each.tiles) for each in (before.rungs if before else ())}
    few = too_few(list(runs))
    print(cost_table(plan).noting([few] if few else []).text(), flush=True)
    if args.dry_run:
        return 0
    if args.slurm:
        return _write_script(args, plan, out)
    return _train_and_fit(args, plan, out)


def _is_left_behind(path: Path) -> bool:
    """Whether a ladder that was killed before its first run may have left this file."""
    from mmae.disk.files import TEMPORARY
    from mmae.scaling_law.ladder_file import LADDER

    return path.name == _LOCK or path.match(f".{LADDER}.*{TEMPORARY}")


def _write_script(args: argparse.Namespace, plan: LadderPlan, out: Path) -> int:
    from importlib import resources

    from mmae.addresses import hide_in_words
    from mmae.disk.files import write_whole, writing
    from mmae.scale.rung_runs import array_script, rungs_left
    from mmae.scaling_law.ladder_file import LADDER, write_ladder

    again = ["mmae", "ladder", plan.recipe, "--sizes", args.sizes, "--budgets", args.budgets, "--out", args.out]
    again += ["--deepspeed_config", args.deepspeed_config, *(["--trust"] if args.trust else [])]
    again += hide_in_words(plan.overrides)
    if not (left := rungs_left(plan)):
        print(f"\nall runs have ended: {shlex.join(again)}")
        return 0
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        if not (out / LADDER).is_file():
            write_ladder(out, plan.shared, [])
        with resources.as_file(resources.files(_LAUNCHERS) / "slurm.sbatch") as launcher:
            text = array_script(plan, left, args.deepspeed_config, args.trust, launcher)
        write_whole(out / SCRIPT, text)
    secret = [word for word in plan.overrides if hide_in_words([word]) != [word]]
    more = [f"{word.partition('=')[0]}=..." for word in secret]
    print(f"\nthe array, of {len(left)} runs:   {shlex.join(['sbatch', str(out / SCRIPT), *more])}")
    if secret:
        print("  Secrets are not in the script: give their whole words again where it says `...`.")
    print(f"once it has ended, the fit:   {shlex.join(again)}")
    return 0


def _train_and_fit(args: argparse.Namespace, plan: LadderPlan, out: Path) -> int:
    from mmae.disk.file_lock import LockedFile
    from mmae.disk.files import writing
    from mmae.scale.rung_runs import run_all

    # The fit needs it, which would fail after hours.
    import_module("scipy")
    with writing(out, "choose another --out"):
        out.mkdir(parents=True, exist_ok=True)
        lock = LockedFile(out / _LOCK, os.O_RDWR | os.O_CREAT)
    if lock.try_lock(exclusive=True) is False:
        raise InputError(f"{out}: another mmae ladder works there: wait for its end, or choose another --out")
    with writing(out, "make room, then start again"):
        _collect(plan, out)

    def say(line: str) -> None:
        print(f"ladder: {line}", file=sys.stderr, flush=True)

    try:
        ended = run_all(plan, args.deepspeed_config, args.trust, say, lambda: _collect(plan, out))
    finally:
        lock.close()
    return _fit(out) if ended else 0


def _collect(plan: LadderPlan, out: Path) -> None:
    """Write what the runs have reached. Runs of former calls with other sizes or budgets stay."""
    from mmae.scale.rung_runs import reached
    from mmae.scaling_law.ladder_file import LADDER, read_ladder, write_ladder

    before = read_ladder(out).rungs if (out / LADDER).is_file() else ()
    found = {(each.size, each.tiles): each for each in before}
    found |= {(each.size, each.tiles): each for rung in plan.rungs if (each := reached(rung)) is not None}
    write_ladder(out, plan.shared, [found[key] for key in sorted(found, key=lambda key: found[key].flops)])


def _fit(out: Path) -> int:
    from mmae.scaling_law.fit_checks import held_out
    from mmae.scaling_law.ladder_file import ALL, read_ladder
    from mmae.scaling_law.law_file import fits_of, write_fits

    ladder = read_ladder(out)
    fits = fits_of(out, ladder)
    write_fits(out, ladder, fits)
    checks = {output: held_out(ladder.points(output)) for output in ladder.outputs()}
    print(f"\n{law_table(fits).noting(list(held_lines(checks[ALL]))).text()}")
    from mmae.scale.ladder_page import write_page

    page = write_page(out, ladder, fits, checks)
    print(f"\n{page}: a picture for each output\nmmae plan RECIPE --gpus 8 --gpu-memory 80GB --ladder {out}")
    return 0


def cost_table(plan: LadderPlan) -> Table:
    """The runs and what they cost, before anything is started."""
    from mmae.plan.measured import PEAK_TFLOPS, utilisation
    from mmae.scale.rung_runs import reached, state_of
    from mmae.terminal.table import Column, Table

    columns = (
        Column("run", "run"),
        Column("state", "state"),
        Column("parameters", "encoder M", "{:.3g}"),
        Column("tiles", "tiles", "{:,}"),
        Column("steps", "steps", "{:,}"),
        Column("pflop", "PFLOP", "{:.3g}"),
        Column("share", "share", "{:.0%}"),
        Column("gpu_hours", "H100 hours", "{:.2g}"),
        Column("minutes", "minutes here", "{:.1f}"),
    )
    total = sum(rung.flops for rung in plan.rungs)
    ended = [each for rung in plan.rungs if (each := reached(rung)) is not None and each.seconds]
    # A small model is slower in operations a second: of the runs that have ended, the largest one is nearest.
    pace = ended[-1].flops / (ended[-1].seconds or 1.0) if ended else None

    def hours(rung: RungPlan) -> float:
        model, train = rung.config.model, rung.config.train
        return rung.flops / (utilisation(model.size, train.compile) * PEAK_TFLOPS * 1e12) / 3600

    rows = [
        {
            "run": rung.name,
            "state": state_of(rung) or "new",
            "parameters": rung.parameters / 1e6,
            "tiles": rung.tiles,
            "steps": rung.config.train.max_steps,
            "pflop": rung.flops / 1e15,
            "share": rung.flops / total,
            "gpu_hours": hours(rung),
            "minutes": pace and rung.flops / pace / 60,
        }
        for rung in plan.rungs
    ]
    left = sum(rung.flops for rung in plan.rungs if state_of(rung) == "")
    notes = [
        f"all runs: {total / 1e15:.3g} PFLOP, {sum(map(hours, plan.rungs)):.2g} hours of one H100 at the utilisation "
        f"that mmae plan assumes; {left / 1e15:.3g} PFLOP of runs that are not started yet",
        "a run that loads and validates for longer than it trains takes longer; minutes here follow from the largest "
        "run that has ended" + ("" if ended else ": none has"),
    ]
    return Table(f"a ladder of {plan.recipe}", columns, rows, notes)


def law_table(fits: dict[str, Fit]) -> Table:
    """The laws, and what speaks against each."""
    from mmae.scale.ladder_page import PAGE
    from mmae.scaling_law.fit_checks import problems
    from mmae.scaling_law.ladder_file import ALL
    from mmae.terminal.table import Column, Table

    columns = (
        Column("output", "output"),
        Column("law", "loss by parameters N and tiles D", wraps=True),
        Column("noise", "scatter", "{:.1%}"),
        Column("fit", "fit"),
    )
    bad = {output: problems(fit) for output, fit in fits.items()}
    rows = [
        {"output": output, "law": str(fit.law), "noise": fit.noise, "fit": "BAD" if bad[output] else "good"}
        for output, fit in fits.items()
    ]
    notes = [f"BAD FIT of {ALL}: {line}" for line in bad.get(ALL, ())]
    others = [output for output, lines in bad.items() if lines and output != ALL]
    notes += [f"BAD FIT of {', '.join(others)}: {PAGE} says why"] if others else []
    return Table("laws, of the validation losses", columns, rows, notes)


def held_lines(checked: tuple[Sequence[HeldOut], Sequence[str]]) -> Iterator[str]:
    """What was predicted of the points that were left out."""
    found, missing = checked
    for each in found:
        where = "within" if each.inside else "OUTSIDE"
        yield (
            f"left out {each.group}: {each.point.size} at {each.point.tiles:,} tiles reached {each.point.loss:.4g}, "
            f"predicted {each.predicted}: {each.off:+.1%}, {where} the interval"
        )
    yield from missing

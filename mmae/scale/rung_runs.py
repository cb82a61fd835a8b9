"""Starts the runs of a ladder one after another by the launcher of one node, and reads what they reached."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mmae.addresses import hide_in_words
from mmae.errors import EXIT_LOST_NUMBERS, InputError
from mmae.launch.supervision.launched_job import popen
from mmae.processes import passing_signals_to
from mmae.run.log_reader import END, LogRecords, step_of_record
from mmae.scale.rungs import LadderPlan, RungPlan
from mmae.scaling_law.ladder_file import Rung

DONE, STARTED, NEW, DIVERGED = "done", "started", "", "lost numbers"


def state_of(rung: RungPlan) -> str:
    """`DONE` where its last step is validated, `DIVERGED`, `STARTED`, or `NEW`."""
    if not rung.folder.log_file.is_file():
        return NEW
    if reached(rung) is not None:
        return DONE
    end = LogRecords(rung.folder.log_file).last(END)
    return DIVERGED if end is not None and end.get("why") == "lost numbers" else STARTED


def reached(rung: RungPlan) -> Rung | None:
    """What a run has reached; None before its last step is validated."""
    if not rung.folder.log_file.is_file():
        return None
    log, last = LogRecords(rung.folder.log_file), rung.config.train.max_steps
    end, val = log.last(END), log.last("val")
    if end is None or end.get("why") != "finished" or val is None or step_of_record(val) != last:
        return None
    losses = {name: loss for name, loss in val.get("losses", {}).items() if isinstance(loss, float) and loss > 0}
    if not losses:
        return None
    probes = log.last("eval") or {}
    scores = probes.get("scores", {}) if step_of_record(probes) == last else {}
    return Rung(rung.config.model.size, rung.parameters, rung.tiles, rung.flops, _seconds(log), losses, dict(scores))


def _seconds(log: LogRecords) -> float | None:
    """The time of all steps, without pauses."""
    total, before = 0.0, 0
    for record in log.all("train"):
        total += (step_of_record(record) - before) * float(record.get("step_seconds") or 0.0)
        before = step_of_record(record)
    return total or None


def launcher_words(plan: LadderPlan, rung: RungPlan, deepspeed_config: str, trust: bool) -> list[str]:
    """The words of a training for any launcher."""
    trusted = ["--trust"] if trust else []
    return ["--config", plan.recipe, "--deepspeed_config", deepspeed_config, *trusted, *plan.overrides, *rung.words]


def run_all(
    plan: LadderPlan, deepspeed_config: str, trust: bool, say: Callable[[str], None], after: Callable[[], None]
) -> bool:
    """Start every run that is not done, smallest cost first.

    Args:
        after: is called after each run.

    Returns:
        whether all were started; False if they were asked to stop.

    Raises:
        InputError: a run failed.
    """
    for number, rung in enumerate(plan.rungs, 1):
        state = state_of(rung)
        head = f"{number} of {len(plan.rungs)}, {rung.name}"
        if state in {DONE, DIVERGED}:
            say(f"{head}: {state} before")
            continue
        say(f"{head}: {rung.config.train.max_steps} steps{', goes on' if state == STARTED else ''}")
        command = [sys.executable, "-m", "mmae.launch.single_node"]
        status, asked = _run([*command, *launcher_words(plan, rung, deepspeed_config, trust)])
        after()
        if asked or (status == 0 and state_of(rung) != DONE):
            say(f"{rung.name} was asked to stop: start the same command again to go on")
            return False
        if status == EXIT_LOST_NUMBERS:
            say(f"{rung.name} lost its numbers and is left out: see {rung.folder.path}")
        elif status:
            raise InputError(
                f"{rung.name} ended with status {status}: see {rung.folder.logs}, then start the same command again, "
                "which skips the runs that are done"
            )
    return True


def _run(command: Sequence[str]) -> tuple[int, bool]:
    """Run a launcher to its end. Signals are passed to it, so that its ranks save and stop.

    Returns:
        its exit status, and whether it was asked to stop.
    """
    process = popen(command, output=subprocess.DEVNULL)
    with passing_signals_to(process) as asked:
        return process.wait(), bool(asked)


def rungs_left(plan: LadderPlan) -> list[RungPlan]:
    """The runs that have not ended."""
    return [rung for rung in plan.rungs if state_of(rung) in {NEW, STARTED}]


def array_script(
    plan: LadderPlan, rungs: Sequence[RungPlan], deepspeed_config: str, trust: bool, launcher: Path
) -> str:
    """A Slurm script with a task for each of some runs, which starts it by `launchers/slurm.sbatch`.

    Words behind the script's name are added to those of each run: secrets of addresses are not in it.
    """
    tasks = [shlex.join(hide_in_words(launcher_words(plan, rung, deepspeed_config, trust))) for rung in rungs]
    cases = "\n".join(f'    {number}) set -- {words} "$@" ;;' for number, words in enumerate(tasks))
    return (
        "#!/usr/bin/env bash\n# Runs of a ladder, smallest cost first: sbatch [options] THIS FILE [section.key=value]\n"
        f"#SBATCH --job-name=mmae-ladder\n#SBATCH --array=0-{len(tasks) - 1}\n"
        "#SBATCH --nodes=1\n#SBATCH --ntasks-per-node=1\n#SBATCH --gpus-per-node=1\n#SBATCH --cpus-per-task=8\n"
        "#SBATCH --time=24:00:00\n#SBATCH --signal=B:USR1@300\n#SBATCH --requeue\n#SBATCH --open-mode=append\n"
        "#SBATCH --output=%x-%A_%a.log\nset -euo pipefail\n"
        # Names of recipes and shards may be those of the folder that the ladder was planned in.
        f"cd {shlex.quote(str(Path.cwd()))}\n"
        f"export MMAE_ROOT=${{MMAE_ROOT:-{shlex.quote(str(launcher.parent.parent))}}}\n"
        f'case "$SLURM_ARRAY_TASK_ID" in\n{cases}\n    *) echo "error: no such run" >&2; exit 2 ;;\nesac\n'
        'exec bash "$MMAE_ROOT/launchers/slurm.sbatch" "$@"\n'
    )

"""The software, devices and limits of each host, compared with the others: pure functions of their answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from mmae.distributed.devices import VISIBLE
from mmae.doctor.agent.facts import Facts
from mmae.doctor.checks.findings import Finding, Level
from mmae.doctor.hosts.survey import Answers
from mmae.errors import InputError
from mmae.launch.visible_devices import device_names
from mmae.terminal.plurals import counted

FEW_FILES: Final = 1024
ENOUGH_FILES: Final = 4096
LITTLE_SHM: Final = 128 << 20
ENOUGH_SHM: Final = 1 << 30
CLOCK_S: Final = 1.0


def answering(answers: Answers) -> Iterator[Finding]:
    """Whether the host answers."""
    if answers.silent is not None:
        why, remedy = answers.silent
        yield Finding("ssh", answers.name, "FAIL", why, remedy)
    elif answers.facts is not None:
        here = f"{answers.facts.hostname}, as {answers.facts.user}"
        yield Finding("ssh", answers.name, "ok", here)


def same_software(known: Sequence[tuple[str, Facts]]) -> Iterator[Finding]:
    """Versions and code, compared with what most hosts have; on a tie, with the first host."""
    kinds = {name: _software(facts) for name, facts in known}
    usual = _usual(list(kinds.values()))
    shown = ", ".join(f"{key} {value}" for key, value in usual.items() if key != "code" and value)
    code = _usual([{"code": facts.code} for _, facts in known])["code"]
    for name, facts in known:
        wrong = [f"{key} {value or 'absent'}, elsewhere {usual[key] or 'absent'}"
                 for key, value in kinds[name].items() if value != usual[key]]  # fmt: skip
        absent = [package for package in ("torch", "deepspeed") if facts.versions.get(package) == "absent"]
        if absent:
            yield Finding("software", name, "FAIL", f"{' and '.join(absent)} missing", "pip install . into this python")
        elif wrong:
            remedy = "give all hosts one environment, shared or installed alike (the driver: ask who runs them)"
            yield Finding("software", name, "FAIL", "; ".join(wrong), remedy)
        else:
            yield Finding("software", name, "ok", shown)
        if facts.code != code:
            found = f"mmae's code is {facts.code[:8]}, elsewhere {code[:8]}"
            yield Finding("code", name, "FAIL", found, "give all hosts the same checkout")
        else:
            yield Finding("code", name, "ok", facts.code[:8])
        if facts.missing_tools:
            found = f"{' and '.join(facts.missing_tools)} not in PATH"
            remedy = "DeepSpeed builds its ops with them: install them, and put PATH=... into ~/.deepspeed_env"
            yield Finding("tools", name, "warn", found, remedy)


def _software(facts: Facts) -> dict[str, str]:
    return {"python": facts.python, **facts.versions, "CUDA": facts.cuda, "driver": facts.driver}


def _usual(kinds: Sequence[dict[str, str]]) -> dict[str, str]:
    return {key: Counter(kind.get(key, "") for kind in kinds).most_common(1)[0][0] for key in kinds[0]}


def devices(answers: Answers, facts: Facts) -> Finding:
    """GPUs, and whether the hostfile's slots are as many."""
    gpus, slots, torch = facts.gpus, answers.slots, answers.torch_gpus
    said = "" if slots is None else f", {counted(slots, 'slot')}"
    level: Level = "ok"
    found, remedy = f"{counted(gpus, 'GPU')}{said}", ""
    if gpus < 0:
        return Finding("GPUs", answers.name, "FAIL", "the driver does not answer", "look at nvidia-smi and dmesg there")
    if gpus > 0 and (visible := facts.environment.get(VISIBLE)) is not None:
        return _given(answers, gpus, visible)
    if gpus == 0:
        return Finding("GPUs", answers.name, "note", f"no GPU{said}: ranks will run on the CPU")
    if torch is not None and torch != gpus:
        level = "FAIL"
        found = f"{counted(gpus, 'GPU')}, torch can use {'none' if torch <= 0 else torch}"
        remedy = f"is the driver {facts.driver} new enough for CUDA {facts.cuda or '(torch is a CPU build)'}?"
    elif slots is not None and slots > gpus:
        level, remedy = "FAIL", f"write slots={gpus}: two ranks cannot share a GPU"
    elif slots is not None and slots < gpus:
        level, remedy = "note", f"idle: {counted(gpus - slots, 'GPU')}; slots={gpus} uses all"
    return Finding("GPUs", answers.name, level, found, remedy)


def _given(answers: Answers, gpus: int, visible: str) -> Finding:
    """The GPUs of a host on which CUDA_VISIBLE_DEVICES is set."""
    try:
        names = device_names(visible, VISIBLE)
    except InputError as error:
        return Finding("GPUs", answers.name, "FAIL", f"{gpus} GPUs", str(error))
    slots = answers.slots
    found = f"{len(names)} of {gpus} GPUs given ({VISIBLE}={visible}){'' if slots is None else f', {slots} slots'}"
    if not names:
        return Finding("GPUs", answers.name, "note", f"{found}: ranks will run on the CPU")
    usable = answers.torch_gpus
    if usable is not None and usable != len(names):
        remedy = "name GPUs that nvidia-smi -L lists; else the driver may be too old for this torch"
        return Finding("GPUs", answers.name, "FAIL", f"{found}, torch can use {max(0, usable) or 'none'}", remedy)
    if slots is not None and slots > len(names):
        return Finding("GPUs", answers.name, "FAIL", found, f"write slots={len(names)}: two ranks cannot share a GPU")
    return Finding("GPUs", answers.name, "ok", found)


def limits(name: str, facts: Facts) -> Iterator[Finding]:
    """Open files, locked memory, shared memory."""
    files = facts.open_files
    if 0 <= files < ENOUGH_FILES:
        level: Level = "FAIL" if files < FEW_FILES else "warn"
        yield Finding("open files", name, level, f"at most {files}", f"ulimit -n {16 * ENOUGH_FILES}, or limits.conf")
    else:
        yield Finding("open files", name, "ok", "no limit" if files < 0 else f"at most {files}")
    if facts.infiniband:
        found = f"{', '.join(facts.infiniband)}; memlock {'unlimited' if facts.locked_memory < 0 else 'is limited'}"
        remedy = "" if facts.locked_memory < 0 else "InfiniBand needs ulimit -l unlimited, for ssh sessions too"
        yield Finding("memlock", name, "FAIL" if remedy else "ok", found, remedy)
    size, free = facts.shm_size, facts.shm_free
    found = f"{size / 1e9:.1f} GB, {free / 1e9:.1f} free"
    remedy = "" if free >= ENOUGH_SHM else "loaders and NCCL live there: a container needs --shm-size=8g or --ipc=host"
    yield Finding("/dev/shm", name, "FAIL" if free < LITTLE_SHM else "warn" if remedy else "ok", found, remedy)


def clocks(known: Sequence[Answers]) -> Iterator[Finding]:
    """Each clock against the first host's. A difference below the uncertainty, half of both round trips, passes."""
    first = known[0]
    for each in known[1:]:
        ahead, unsure = each.ahead - first.ahead, each.unsure + first.unsure
        off = abs(ahead) - unsure > CLOCK_S
        found = f"{ahead:+.3f} s against {first.name}, give or take {unsure:.3f}"
        remedy = "times in logs and locks will be wrong: start chrony or ntpd" if off else ""
        yield Finding("clock", each.name, "warn" if off else "ok", found, remedy)

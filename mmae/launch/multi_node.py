"""`launchers/multi_node.sh`: from its words to the `deepspeed` command, with all checks, and the launch itself."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmae.distributed.devices import DEVICES
from mmae.errors import EXIT_BAD_INPUT, InputError
from mmae.launch.entry import COMMAND, entry, is_dry_run, remember_call
from mmae.launch.hostfile import meeting_place, read_slots, refuse_ipv6, slots_used
from mmae.launch.rank_environment import is_secret, leaking
from mmae.launch.shell_quoting import word
from mmae.launch.ssh_ranks import Hosts, SshRanks
from mmae.launch.supervision.local_ranks import LocalRanks
from mmae.launch.supervision.supervise import supervise
from mmae.launch.training_words import MODULE, program_of
from mmae.launch.visible_devices import check_over_ssh, of_a_node

SCRIPT: Final = "multi_node.sh"


@dataclass(frozen=True)
class Start:
    """What the launcher runs.

    Attributes:
        command: `deepspeed` and its words.
        restarts: how often it may start again when a rank or a host was lost.
        hosts: how ranks are reached by ssh; None: they run on this machine.
    """

    command: list[str]
    restarts: int
    hosts: Hosts | None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise InputError(f"{message} (multi_node.sh HOSTFILE [its options] --config RECIPE ...)")


def parser() -> argparse.ArgumentParser:
    made = _Parser(prog="multi_node.sh", allow_abbrev=False, add_help=False)
    made.add_argument("hostfile", type=Path)
    made.add_argument("-i", "--include", default="")
    made.add_argument("-e", "--exclude", default="")
    made.add_argument("--num_nodes", type=int)
    made.add_argument("--num_gpus", type=int)
    made.add_argument("--master_port", type=int, default=29500)
    made.add_argument("--ssh_port", type=int)
    made.add_argument("--launcher_args", default="")
    made.add_argument("--no_ssh", action="store_true")
    made.add_argument("--no_ssh_check", action="store_true")
    made.add_argument("--node_rank", type=int)
    made.add_argument("--restarts", type=int, default=0)
    return made


def plan_start(words: Sequence[str], environment: Mapping[str, str], folder: Path, python: Path) -> Start:
    """Check everything that can be checked before a host is asked.

    Args:
        words: HOSTFILE, options of the launcher, then `--config` and the other words of the training, or of another
            program (`program_of`).
        folder: the working directory, the same on every node.

    Raises:
        InputError: a check fails.
    """
    end = next((place for place, each in enumerate(words) if each.startswith(("--config", MODULE))), len(words))
    options, program = parser().parse_args(words[:end]), program_of(words[end:])
    for what, path in (("the working directory", folder), ("python", python), ("the hostfile", options.hostfile)):
        if not options.no_ssh and re.search(r"[^\w@+=:,./-]", str(path)):
            raise InputError(f"{what}, {path}: DeepSpeed does not quote it for other nodes: use a plain path")
    nodes = options.num_nodes if options.num_gpus is None else options.num_nodes or sys.maxsize
    slots = read_slots(options.hostfile)
    used = slots_used(slots, options.include, options.exclude, nodes, options.num_gpus)
    hosts = list(used)
    if options.no_ssh and (options.node_rank is None or not 0 <= options.node_rank < len(hosts)):
        raise InputError(f"--no_ssh: give --node_rank, 0 to {len(hosts) - 1}: this node's place in the hostfile")
    own = None
    if options.no_ssh:
        filtered = bool(options.include or options.exclude)
        own = of_a_node(used[hosts[options.node_rank]], environment, filtered=filtered)
    else:
        refuse_ipv6(hosts)
        check_over_ssh(used, environment)
    address = meeting_place(hosts, environment.get("MASTER_ADDR", ""))
    command = ["deepspeed", "--hostfile", str(options.hostfile), "--master_addr", address]
    command += ["--master_port", str(options.master_port)]
    if not program.verbose:
        command += ["--log_level", "error"]
    for name in ("include", "exclude", "num_nodes", "num_gpus", "ssh_port", "launcher_args"):
        if value := getattr(options, name):
            # Joined by `=`, as a value that begins with a dash would be read as an option.
            command.append(f"--{name}={value}")
    if options.no_ssh:
        command += ["--no_ssh", "--node_rank", str(options.node_rank)]
    else:
        # Otherwise DeepSpeed takes a single host for this machine, whatever its name.
        # `ssh_check` asks all hosts before. DeepSpeed would ask the first one only, and wait for it without end.
        command += ["--force_multi", "--no_ssh_check"]
    told = [part for name in leaking(environment) for part in ("-u", name)] if not options.no_ssh else []
    if own is not None:
        told.append(f"{DEVICES}={','.join(own)}")
    command = [*(["env", *told] if told else []), *command, "--module", program.module]
    command += program.words if options.no_ssh else [word(each) for each in program.words]
    if options.no_ssh:
        return Start(command, options.restarts, None)
    reached = Hosts(
        hosts, address, options.master_port, options.ssh_port, options.launcher_args.split(), program.run,
        ask_first=not options.no_ssh_check,
    )  # fmt: skip
    return Start(command, options.restarts, reached)


@entry
def main(*words: str) -> int:
    if not words or not words[0]:
        print(f"usage: {SCRIPT} HOSTFILE --config RECIPE ... (--help says more)", file=sys.stderr)
        return EXIT_BAD_INPUT
    remember_call(SCRIPT, words, variables=("MASTER_ADDR",))
    start = plan_start(words, os.environ, Path.cwd(), Path(sys.executable))
    if start.hosts is None:
        return 0 if is_dry_run(start.command) else supervise(LocalRanks(SCRIPT, start.command), start.restarts)
    if stay := [name for name, value in sorted(os.environ.items()) if is_secret(name, value) and name != COMMAND]:
        print(f"not passed on to other nodes: {', '.join(stay)} (use ~/.netrc, ~/.aws/credentials)", file=sys.stderr)
    job = SshRanks(SCRIPT, start.command, start.hosts)
    if is_dry_run(start.command):
        with job:
            sys.stderr.write(job.exports().read_text(encoding="utf-8"))
        return 0
    return supervise(job, start.restarts)


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

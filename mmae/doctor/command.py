"""`mmae doctor`: check this machine, or all hosts of a hostfile, before a training starts."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mmae.addresses import is_remote
from mmae.config.recipe_arguments import add_recipe_arguments, recipe_or_none
from mmae.disk.ownership import add_trust_argument
from mmae.doctor.checks.findings import failed
from mmae.errors import InputError
from mmae.launch.hostfile import Host, read_hostfile
from mmae.terminal.plurals import counted
from mmae.terminal.table import add_json_argument, check_json_path, report

if TYPE_CHECKING:
    from mmae.config.schema import Config
    from mmae.doctor.bandwidth.measure import AllReduce
    from mmae.run.folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--hostfile", type=Path, metavar="H", help="check all hosts of this hostfile (default: this machine)"
    )
    parser.add_argument("--shards", metavar="S", help="folder of shards to check (default: the run's own)")
    parser.add_argument("--run", metavar="R", help="run.dir of an existing or a planned run")
    parser.add_argument(
        "--bandwidth",
        action="store_true",
        help="also time an all-reduce between all ranks, which keeps the hosts busy",
    )
    add_recipe_arguments(parser, "with --bandwidth: compare with what this recipe needs")
    parser.add_argument(
        "--deepspeed_config",
        default="zero1",
        metavar="JSON",
        help="DeepSpeed JSON of that recipe, a packaged name or a file (default: zero1)",
    )
    add_trust_argument(parser, "a run or recipe")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, or 1 if a check fails. Bad input is an InputError."""
    from mmae.doctor.bandwidth.bandwidth_checks import bandwidth_findings
    from mmae.doctor.host_report import all_findings, table_of
    from mmae.doctor.hosts.survey import survey

    check_json_path(args.json)
    hosts = read_hostfile(args.hostfile) if args.hostfile else [Host("localhost")]
    network = _all_reduce(args, hosts)
    # DeepSpeed starts the ranks of a single host without ssh, whatever its name is.
    local = len(hosts) == 1
    folder, config = _run(args.run, args.trust)
    shards = [args.shards] if args.shards else list(config.data.locations) if config else []
    local_sets = [str(Path(each).absolute()) for each in shards if not is_remote(each)]
    run_folder = str(folder.path.absolute()) if folder else None
    answers = survey(hosts, local_sets, run_folder, local=local, at_last=network)
    findings = all_findings(answers, _needed(folder, config))
    findings += bandwidth_findings(network, hosts) if network else []
    notes = [f"not checked, as it is not on a local file system: {counted(len(shards) - len(local_sets), 'shard set')}"]
    title = f"mmae doctor: {'this machine' if local else counted(len(hosts), 'host')}"
    table = table_of(findings, title).noting(notes if len(local_sets) < len(shards) else [])
    facts: dict[str, object] = {"hosts": [asdict(each) for each in answers], "failed": failed(findings)}
    facts |= {"bandwidth": network.measured.facts()} if network else {}
    report(table, args.json, facts)
    return int(failed(findings))


def _all_reduce(args: argparse.Namespace, hosts: Sequence[Host]) -> AllReduce | None:
    recipe, overrides = recipe_or_none(args)
    if not args.bandwidth:
        if recipe is not None or overrides:
            raise InputError("--config RECIPE and overrides need --bandwidth, which compares with the recipe's needs")
        return None
    if recipe is None and overrides:
        raise InputError(f"{overrides[0]}: add --config RECIPE, the recipe that it overrides")
    from mmae.doctor.bandwidth.measure import AllReduce

    if recipe is None:
        return AllReduce(hostfile=args.hostfile)
    from mmae.doctor.bandwidth.demand import demand_of

    need = partial(demand_of, recipe, args.deepspeed_config, overrides, trust=args.trust)
    if all(host.slots for host in hosts):
        # Bad input is refused before any host is asked.
        need(sum(host.slots or 0 for host in hosts))
    return AllReduce(need, args.hostfile)


def _run(path: str | None, trust: bool) -> tuple[RunFolder | None, Config | None]:
    if path is None:
        return None, None
    from mmae.run.folder import RunFolder

    folder = RunFolder(Path(path))
    return folder, folder.stored_config(trust)


def _needed(folder: RunFolder | None, config: Config | None) -> int | None:
    if folder is None or config is None:
        return None
    from mmae.doctor.disk_space import bytes_to_come

    return bytes_to_come(folder, config)

"""`mmae doctor`: what stands in a run's way on this machine, or on all hosts of a hostfile."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmae.doctor.findings import failed
from mmae.doctor.hostfile import Host, read_hostfile
from mmae.table import add_json_argument, check_json_path, report

if TYPE_CHECKING:
    from mmae.config import Config
    from mmae.engine.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hostfile", type=Path, metavar="H", help="look at all its hosts (default: this machine)")
    parser.add_argument("--shards", metavar="S", help="folder of shards (default: those of the run)")
    parser.add_argument("--run", metavar="R", help="run.dir, of a run or of one to come")
    add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; 1 where a check fails. Bad input is an InputError."""
    from mmae.doctor.report import all_findings, table_of
    from mmae.doctor.survey import survey

    check_json_path(args.json)
    hosts = read_hostfile(args.hostfile) if args.hostfile else [Host("localhost")]
    # DeepSpeed starts the ranks of a single host without ssh, whatever its name is.
    local = len(hosts) == 1
    folder, config = _run(args.run)
    shards = [args.shards] if args.shards else list(config.data.locations) if config else []
    local_sets = [str(Path(each).absolute()) for each in shards if ":" not in each]
    answers = survey(hosts, local_sets, str(folder.path.absolute()) if folder else None, local=local)
    findings = all_findings(answers, _needed(folder, config))
    notes = [f"not looked at, being elsewhere: {len(shards) - len(local_sets)} shard sets"]
    title = f"mmae doctor: {'this machine' if local else f'{len(hosts)} hosts'}"
    table = table_of(findings, title).noting(notes if len(local_sets) < len(shards) else [])
    report(table, args.json, {"hosts": [asdict(each) for each in answers], "failed": failed(findings)})
    return int(failed(findings))


def _run(path: str | None) -> tuple[RunFolder | None, Config | None]:
    if path is None:
        return None, None
    from mmae.engine.run_folder import RunFolder

    folder = RunFolder(Path(path))
    return folder, folder.stored_config()


def _needed(folder: RunFolder | None, config: Config | None) -> int | None:
    if folder is None or config is None:
        return None
    from mmae.doctor.room import bytes_to_come

    return bytes_to_come(folder, config)

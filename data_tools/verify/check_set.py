"""The check of all shards of a set against the index, and against the source if one is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mmae.terminal.plurals import counted
from mmae.terminal.printable import printable

if TYPE_CHECKING:
    from data_tools.source.dataset import Source
    from data_tools.verify.differences import Difference, Findings, ShardReport
    from data_tools.verify.shard import Task
    from mmae.data.sampling.leaks import Leak
    from mmae.data.shards.index import Index
    from mmae.data.shards.index_json import Loss


@dataclass
class Report:
    """The result of a check.

    Attributes:
        of_set: differences of the whole set.
        of_shards: the differences of each shard of the index.
        losses: tiles that could not be packed, from the index. They do not count as differences.
        packed_from: name of the HDF5 file that was packed.
        other_source: the source of the comparison is not the packed file, or has other JSON files.
        not_packed: name -> reason, for everything in the source that was not packed. It does not count either.
        leaks: places that tiles of two splits show. They come from the source, and do not count either.
        damaged: numbers of the shards with a file that differs from the packed one.
    """

    of_set: Findings
    of_shards: list[ShardReport] = field(default_factory=list)
    losses: tuple[Loss, ...] = ()
    packed_from: str = ""
    other_source: bool = False
    not_packed: Mapping[str, str] = field(default_factory=dict)
    leaks: list[Leak] = field(default_factory=list)

    @property
    def tiles(self) -> int:
        return sum(shard.tiles for shard in self.of_shards)

    @property
    def shards(self) -> int:
        return len(self.of_shards)

    @property
    def damaged(self) -> list[int]:
        return [shard.number for shard in self.of_shards if not shard.whole]

    @property
    def findings(self) -> list[Findings]:
        return [self.of_set, *(shard.findings for shard in self.of_shards)]

    @property
    def count(self) -> int:
        """The number of all differences, listed or not."""
        return sum(findings.count for findings in self.findings)

    @property
    def differences(self) -> list[Difference]:
        """The first differences of the set and of each shard."""
        return [difference for findings in self.findings for difference in findings.listed]


def verify(
    shards: Path | str,
    against: Path | str | None = None,
    workers: int | None = 1,
    shown: bool = True,
    only: Sequence[int] | None = None,
    splits: Path | str | None = None,
) -> Report:
    """Check every byte, every checksum and the content of every member of every shard.

    Args:
        shards: folder that `mmae repack` wrote.
        against: NAME.h5 or its folder: every value of every dataset, splits and metadata are compared with it.
        workers: number of processes; None for one a core. Each takes one shard at a time.
        shown: show the progress on standard error.
        only: numbers of the shards to check; None for all.
        splits: the source's splits file, if it is not the one beside the source.

    Raises:
        InputError: there is no finished set, its index is damaged, or the source is unusable or another data set.
    """
    from data_tools.verify.differences import Findings
    from data_tools.verify.shard import ShardCheck
    from data_tools.workers.pool import available_cores, in_processes
    from data_tools.workers.progress import progress
    from mmae.data.sampling.leaks import leaks_of_set
    from mmae.data.shards.index import open_index

    index = open_index(shards)
    report = Report(Findings(), losses=index.losses, packed_from=index.source.name, leaks=leaks_of_set(index))
    report.of_set.add(_unlisted(index))
    with ExitStack() as stack:
        source, reference = None, None
        if against is not None:
            from data_tools.source.dataset import open_source
            from data_tools.verify.source_comparison import Reference, compare_sets, is_other_source, not_packed

            source = stack.enter_context(open_source(against, splits=splits))
            report.other_source = is_other_source(index, source)
            report.not_packed = not_packed(index, source)
            report.of_set.add(compare_sets(index, source))
            reference = stack.enter_context(Reference(source.path))
        numbers = range(len(index.shards)) if only is None else only
        total = sum(index.shards[number].tiles for number in numbers)
        bar = stack.enter_context(progress(total, "verify", shown))
        tasks = _tasks(index, source, numbers)
        done = in_processes(ShardCheck(index, reference), tasks, workers or available_cores(), bar)
        report.of_shards += sorted((found for _, found in done), key=lambda found: found.number)
    return report


def _tasks(index: Index, source: Source | None, numbers: Iterable[int]) -> Iterator[Task]:
    """One task a shard, created when it is needed, because it contains the text of its tiles' entries."""
    import numpy as np

    from data_tools.verify.shard import Task

    for number in numbers:
        rows = index.row[np.flatnonzero(index.shard == number)].tolist() if source is not None else []
        yield Task(number, None if source is None else [_tile_info(source, row) for row in rows])


def _tile_info(source: Source, row: int) -> str:
    # A row beyond the source is one difference of the whole set, and a row without a tile differs by its id.
    known = row < source.info.rows and source.tile_ids[row] in source.tile_info
    return source.tile_info.text(source.tile_ids[row]) if known else "null"


def _unlisted(index: Index) -> Iterable[Difference]:
    from data_tools.verify.differences import Difference

    listed = {shard.name for shard in index.shards}
    found = sorted(path.name for path in index.folder.glob("*.tar"))
    return [Difference(name, None, None, "is not in the index") for name in found if name not in listed]


def tell(report: Report, against: Path | str | None) -> None:
    """Print the report."""
    from mmae.data.sampling.leaks import warnings

    for findings in report.findings:
        for line in findings.lines():
            print(printable(line))
    for loss in report.losses:
        print(printable(f"known loss: row {loss.row} (tile {loss.tile_id}), {loss.dataset}: {loss.what}"))
    for line in warnings(report.leaks):
        print(printable(line))
    if report.not_packed:
        from data_tools.source.source_datasets import told

        print("\n".join(map(printable, told(report.not_packed))))
    if report.other_source:
        print(
            f"{printable(str(against))} is not the {report.packed_from} that was packed, or its JSON files have "
            "changed (another fingerprint): differences may be those between the two"
        )
    print(printable(_summary(report, against)))


def _summary(report: Report, against: Path | str | None) -> str:
    compared = f" against {against}" if against is not None else ""
    looked_at = f"checked {counted(report.tiles, 'tile')} in {counted(report.shards, 'shard')}{compared}"
    parts = [f"{looked_at}: {counted(report.count, 'difference')}"]
    if report.losses:
        parts.append(counted(len(report.losses), "known loss", "known losses"))
    if report.not_packed:
        parts.append(f"{counted(len(report.not_packed), 'dataset')} not packed")
    if shared := sum(each.tiles for each in report.leaks):
        parts.append(f"{counted(shared, 'tile')} on ground of another split")
    return ", ".join(parts)

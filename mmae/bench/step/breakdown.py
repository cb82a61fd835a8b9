"""A step by kind of work, from torch's profiler: the device's kernels on a GPU, operators on a CPU.

A moment in which none of them runs is idle. On a GPU it waits for the host then; on a CPU that is Python, autograd's
own work and DeepSpeed's. The profiler itself makes a step longer, the host's part above all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.profiler import ProfilerActivity, profile

from mmae.terminal.table import Column, Value

KINDS: Final = ("products", "attention", "elementwise", "copies", "optimiser", "idle")
COLUMNS: Final = (
    Column("precision", "precision"),
    Column("micro_batch", "micro-batch"),
    Column("what", "step"),
    Column("kind", "kind of work"),
    Column("milliseconds", "ms", "{:.1f}"),
    Column("share", "% of a step", "{:.1%}"),
    Column("calls", "calls"),
)
KEYS: Final = 4
_GAPS: Final = 5
_PATTERNS: Final = (
    ("optimiser", r"adam"),
    ("attention", r"attention|fmha|flash|softmax_warp"),
    ("products", r"gemm|nvjet|cutlass|wgmma|xmma|mkldnn|convolution|cudnn.*(conv|grad)"
                 r"|\b(aten::)?(mm|bmm|addmm|baddbmm)\b"),
    ("copies", r"memcpy|memset|copy|\bcat|catarray|aten::(_to_copy|clone|contiguous|cat|stack|fill_|zero_|index|gather"
               r"|scatter\w*|index_\w+|embedding\w*|flatten\w*|zeros\w*|full\w*|ones\w*)$|gather|scatter|indexing"),
)  # fmt: skip
_NAMED: Final = tuple((kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in _PATTERNS)
_INHERITED: Final = frozenset({"attention", "optimiser"})
"""Kinds of which everything within an operator is a part."""


@dataclass(frozen=True)
class Span:
    """An operator or kernel, and its beginning and end in nanoseconds."""

    name: str
    begin: int
    end: int
    lane: int = 0


@dataclass(frozen=True)
class Gap:
    """A time in which nothing ran, in nanoseconds, and what ended before it and began after it."""

    length: int
    before: str
    after: str


@dataclass(frozen=True)
class Breakdown:
    """A step by kind.

    Attributes:
        nanoseconds: of each kind; those of operators without what runs within them.
        calls: operators or kernels of each kind.
        gaps: the longest ones, in falling order.
    """

    nanoseconds: dict[str, int]
    calls: dict[str, int]
    gaps: list[Gap]

    def rows(self) -> list[dict[str, Value]]:
        """By the keys of `COLUMNS`, but for those that identify the step."""
        whole = sum(self.nanoseconds.values())
        return [
            {"kind": kind, "milliseconds": self.nanoseconds[kind] / 1e6, "share": self.nanoseconds[kind] / whole,
             "calls": self.calls[kind]}
            for kind in KINDS
        ]  # fmt: skip

    def notes(self) -> list[str]:
        return [f"idle for {gap.length / 1e6:.2f} ms after {gap.before}, before {gap.after}" for gap in self.gaps]


def broken_down(step: Callable[[], object], device: torch.device) -> Breakdown:
    """Run the step once under the profiler, and once before to warm up."""
    on_gpu = device.type == "cuda"
    step()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as seen:
        step()
        if on_gpu:
            torch.cuda.synchronize(device)
    return by_kind(_spans(seen, on_gpu))


def by_kind(spans: Sequence[Span]) -> Breakdown:
    """Adds up what ran. Spans of one lane lie within one another or apart; those of several lanes may overlap."""
    nanoseconds, calls = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0)
    for span, kind, own in _nested(spans):
        nanoseconds[kind] += own
        calls[kind] += bool(own and span.name)
    gaps = list(_gaps(spans))
    nanoseconds["idle"], calls["idle"] = sum(gap.length for gap in gaps), len(gaps)
    return Breakdown(nanoseconds, calls, sorted(gaps, key=lambda gap: -gap.length)[:_GAPS])


def kind_of(name: str) -> str:
    """The kind of an operator or kernel by its name. What no pattern knows is elementwise: norms, sums, activations."""
    return next((kind for kind, pattern in _NAMED if pattern.search(name)), "elementwise")


def _nested(spans: Iterable[Span]) -> Iterator[tuple[Span, str, int]]:
    """Each span with its kind and its own time, in which no span within it runs."""
    open_: dict[int, list[tuple[Span, str, list[int]]]] = {}
    for span in sorted(spans, key=lambda each: (each.begin, -each.end)):
        stack = open_.setdefault(span.lane, [])
        while stack and stack[-1][0].end <= span.begin:
            yield _closed(stack.pop())
        kind = kind_of(span.name)
        if stack:
            stack[-1][2].append(span.end - span.begin)
            kind = stack[-1][1] if stack[-1][1] in _INHERITED else kind
        stack.append((span, kind, []))
    for stack in open_.values():
        yield from map(_closed, stack)


def _closed(entry: tuple[Span, str, list[int]]) -> tuple[Span, str, int]:
    span, kind, within = entry
    return span, kind, max(0, span.end - span.begin - sum(within))


def _gaps(spans: Iterable[Span]) -> Iterator[Gap]:
    """The times between the first and the last span in which none runs."""
    last: Span | None = None
    for span in sorted(spans, key=lambda each: each.begin):
        if last is not None and span.begin > last.end:
            yield Gap(span.begin - last.end, last.name, span.name)
        if last is None or span.end > last.end:
            last = span


def _spans(seen: Any, on_gpu: bool) -> list[Span]:
    wanted = ".CUDA" if on_gpu else ".CPU"
    found = []
    for event in seen.profiler.kineto_results.events():
        name = event.name()
        works = not _ANNOTATION.match(name) if on_gpu else bool(_OPERATOR.search(name))
        if str(event.device_type()).endswith(wanted) and works:
            lane = event.device_resource_id() if on_gpu else event.start_thread_id()
            found.append(Span(name, event.start_ns(), event.start_ns() + event.duration_ns(), lane))
    return found


_OPERATOR: Final = re.compile(r"^(aten|mmae)::|fused_|extern_kernels")
_ANNOTATION: Final = re.compile(r"ProfilerStep|Optimizer\.|autograd::|nccl:")

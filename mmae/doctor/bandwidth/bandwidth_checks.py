"""Whether the network is fast enough: the measured bandwidth compared with a recipe's needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from mmae.doctor.bandwidth.demand import Demand
from mmae.doctor.bandwidth.measure import AllReduce, Measured
from mmae.doctor.checks.findings import Finding
from mmae.launch.hostfile import Host
from mmae.plan.plan_table import network_share

MUCH: Final = 0.2
"""Share of a step above which the network is worth a warning."""


def bandwidth_findings(network: AllReduce, hosts: Sequence[Host]) -> list[Finding]:
    where = hosts[0].name if len(hosts) == 1 else f"all {len(hosts)}"
    found = list(bandwidth(network.measured, where))
    return found + (list(enough(network.measured, network.need, where)) if network.need else [])


def bandwidth(measured: Measured, where: str) -> Iterator[Finding]:
    """Findings about the all-reduce itself.

    Args:
        where: a name for all hosts together.
    """
    if measured.skipped:
        yield Finding("bandwidth", where, "note", f"not measured: {measured.skipped}")
    for host, why, remedy in measured.problems:
        yield Finding("bandwidth", host, "FAIL", why, remedy)
    if measured.seconds:
        took, size = median(measured.seconds), measured.size
        names = ", ".join(dict.fromkeys(filter(None, measured.interfaces)))
        # NCCL finds its adapters itself.
        way = f"; {'' if measured.backend == 'gloo' else 'meeting over '}{names}" if names else ""
        found = (
            f"{_rate(measured.bandwidth)} bus bandwidth: {measured.ranks} ranks reduce {size / 1e6:.0f} MB "
            f"in {took * 1000:.3g} ms ({measured.backend}{way})"
        )
        yield Finding("bandwidth", where, "ok", found)


def enough(measured: Measured, need: Demand, where: str) -> Iterator[Finding]:
    """Whether a step communicates for a short time compared with its computing."""
    if not measured.seconds:
        return
    line, rate = need.line, measured.bandwidth
    seconds = line.network / rate
    found = f"{need.what}: {line.network / 1e9:.3g} GB a rank and step take {seconds:.3g} s"
    share = network_share(line, rate) if measured.backend == "nccl" else None
    if share is None:
        reason = "on CPUs" if measured.backend != "nccl" else "with offloading or in fp32"
        yield Finding("network", where, "ok", f"{found} (how long computing takes {reason} is not known)")
        return
    computing = f"{line.step_seconds:.3g} s at {need.mfu:.1%} MFU of an H100"
    found += f", {share:.0%} of a step if nothing overlaps (computing: {computing})"
    if share <= MUCH:
        yield Finding("network", where, "ok", found)
        return
    remedy = "is that the fast network? NCCL_DEBUG=INFO tells which one NCCL takes; more nodes will gain little"
    yield Finding("network", where, "note", found, remedy)


def _rate(rate: float) -> str:
    return f"{rate / 1e9:.3g} GB/s"

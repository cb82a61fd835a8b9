"""Whether the hosts can communicate: names, interfaces, connections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmae.distributed.network_interface import is_loopback
from mmae.doctor.checks.findings import Finding
from mmae.doctor.hosts.survey import Answers


def own_name(answers: Answers, many: bool) -> Finding:
    """Whether the host's own name has a usable address: gloo announces it to other ranks, if no interface is named.

    Our ranks name the interface that leads to the first host (`mmae.distributed.network_interface`), if that is
    reached by IPv4.
    """
    facts = answers.facts
    assert facts is not None
    name, addresses, said = answers.name, facts.own_addresses, facts.environment.get("GLOO_SOCKET_IFNAME")
    shown = f"{facts.hostname} is {', '.join(addresses) or 'no address'}"
    if said:
        return Finding("own name", name, "ok", f"{shown}; GLOO_SOCKET_IFNAME={said}")
    if addresses and not any(map(is_loopback, addresses)):
        return Finding("own name", name, "ok", shown)
    if not many:
        return Finding("own name", name, "note", f"{shown}: enough for one host")
    way = answers.route.interface if answers.route and not is_loopback(answers.route.address) else ""
    if way and answers.route and ":" not in answers.route.address:
        return Finding("own name", name, "note", f"{shown}: ranks take {way} instead")
    variables = f"GLOO_SOCKET_IFNAME={way or 'INTERFACE'} and NCCL_SOCKET_IFNAME={way or 'INTERFACE'}"
    remedy = f"other hosts cannot connect to it: put {variables} into ~/.deepspeed_env, or correct its /etc/hosts"
    return Finding("own name", name, "FAIL", shown, remedy)


def routes(known: Sequence[Answers]) -> Iterator[Finding]:
    """The interface that leads to the first host; a variable may name another one."""
    for each in known:
        route, facts = each.route, each.facts
        if route is None or facts is None:
            continue
        if route.problem:
            remedy = f"make {route.to} known on {each.name}: DNS, or /etc/hosts"
            yield Finding("route", each.name, "FAIL", f"to {route.to}: {route.problem}", remedy)
            continue
        found = f"to {route.to} by {route.interface or '?'} ({route.address})"
        wrong = [f"{name}={value}" for name, value in facts.environment.items()
                 if name.endswith("SOCKET_IFNAME") and not names_interface(value, route.interface)]  # fmt: skip
        if is_loopback(route.address):
            remedy = f"{route.to} is this host itself, or its name is wrong here: correct the hostfile or /etc/hosts"
            yield Finding("route", each.name, "warn", found, remedy)
        elif wrong:
            remedy = f"does it name another network on purpose? if not, set it to {route.interface}"
            yield Finding("route", each.name, "warn", f"{found}, but {' and '.join(wrong)}", remedy)
        else:
            yield Finding("route", each.name, "ok", found)


def names_interface(said: str, interface: str) -> bool:
    """Whether a value in NCCL's notation selects an interface: prefixes, `=` for whole names, `^` for all others."""
    unlike = said.startswith("^")
    exact = said.lstrip("^").startswith("=")
    words = [word for word in said.lstrip("^=").split(",") if word]
    found = any(interface == word if exact else interface.startswith(word) for word in words)
    return found != unlike


def connections(known: Sequence[Answers]) -> Iterator[Finding]:
    """All connection attempts, a line for each host."""
    for each in known:
        if not each.reached:
            continue
        broken = {other: reached.problem for other, reached in each.reached.items() if reached.problem}
        if broken:
            found = "; ".join(f"{each.name} -> {other}: {problem}" for other, problem in broken.items())
            remedy = "open all TCP ports between the hosts: NCCL, gloo and DeepSpeed choose theirs freely"
            yield Finding("connect", each.name, "FAIL", found, remedy)
        else:
            slowest = max(reached.milliseconds for reached in each.reached.values())
            yield Finding("connect", each.name, "ok", f"to {', '.join(each.reached)}; slowest {slowest:.1f} ms")


def twice(known: Sequence[Answers]) -> Iterator[Finding]:
    """Hosts that are the same machine: their ranks would share its GPUs."""
    seen: dict[str, str] = {}
    for each in known:
        if each.facts is None:
            continue
        first = seen.setdefault(each.facts.machine, each.name)
        if first != each.name:
            remedy = "give each machine one line of the hostfile"
            yield Finding("machine", each.name, "warn", f"is the same machine as {first}", remedy)

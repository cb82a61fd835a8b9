"""Names, interfaces, connections."""

from __future__ import annotations

import pytest

from mmae.doctor.agent.connectivity import Reached, Route
from mmae.doctor.checks import network
from tests.support.surveyed_hosts import facts, host

ETH = Route("a", "10.0.0.2", "eth0", "")


@pytest.mark.parametrize("addresses", [[], ["127.0.0.1"], ["127.0.1.1", "10.0.0.1"], ["::1"]])
def test_a_name_that_others_cannot_use(addresses: list[str]) -> None:
    said = facts(own_addresses=addresses)
    found = network.own_name(host("b", said, route=Route("a", "fe80::2", "eth0", "")), many=True)
    assert found.level == "FAIL"
    assert "GLOO_SOCKET_IFNAME=eth0" in found.remedy
    assert network.own_name(host("b", said), many=False).level == "note"
    found = network.own_name(host("b", said, route=ETH), many=True)
    assert found.level == "note"
    assert found.found.endswith(": ranks take eth0 instead")
    named = facts(own_addresses=addresses, environment={"GLOO_SOCKET_IFNAME": "eth0"})
    assert network.own_name(host("b", named), many=True).level == "ok"


@pytest.mark.parametrize("addresses", [["10.0.0.1"], ["fe80::1%eth0"], ["not an address"]])
def test_a_name_that_others_can_use(addresses: list[str]) -> None:
    assert network.own_name(host("b", facts(own_addresses=addresses)), many=True).level == "ok"


def test_loopback_is_not_offered_as_a_remedy() -> None:
    said = facts(own_addresses=["127.0.0.1"])
    found = network.own_name(host("b", said, route=Route("a", "127.0.0.1", "lo", "")), many=True)
    assert "IFNAME=INTERFACE" in found.remedy


@pytest.mark.parametrize(
    ("said", "interface", "covers"),
    [("eth0", "eth0", True), ("eth", "eth1", True), ("=eth", "eth1", False), ("=eth1", "eth1", True),
     ("^lo,docker", "eth0", True), ("^lo,docker", "docker0", False), ("^=docker", "docker0", True),
     ("ib0,eth0", "eth0", True), ("ib0", "eth0", False), ("", "eth0", False)],
)  # fmt: skip
def test_nccls_notation(said: str, interface: str, covers: bool) -> None:
    assert network.names_interface(said, interface) is covers


def test_routes() -> None:
    hosts = [
        host("a", route=ETH),
        host("b", route=Route("a", "", "", "Name or service not known")),
        host("c", route=Route("a", "127.0.0.1", "lo", "")),
        host("d", facts(environment={"NCCL_SOCKET_IFNAME": "ib0"}), route=ETH),
        host("e"),
    ]
    assert [(each.host, each.level) for each in network.routes(hosts)] == [
        ("a", "ok"), ("b", "FAIL"), ("c", "warn"), ("d", "warn")
    ]  # fmt: skip


def test_connections() -> None:
    well, broken = Reached("10.0.0.1", 0.4, ""), Reached("", 0.0, "timed out")
    found = list(network.connections(
        [host("a", reached={"b": well, "c": broken}), host("b", reached={"a": well}), host("c")]
    ))  # fmt: skip
    assert [(each.host, each.level) for each in found] == [("a", "FAIL"), ("b", "ok")]
    assert found[0].found == "a -> c: timed out"


def test_one_machine_under_two_names() -> None:
    found = list(network.twice([host("a"), host("b", facts(machine="boot-2")), host("c")]))
    assert [(each.host, each.level) for each in found] == [("c", "warn")]

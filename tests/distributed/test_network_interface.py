from __future__ import annotations

import socket

import pytest

from mmae.distributed.network_interface import choose_interface, interface_to, own_address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "no.such.host.invalid"])
def test_ranks_that_meet_on_this_machine_choose_nothing(host: str) -> None:
    assert interface_to(host) is None
    environment = {"MASTER_ADDR": host}
    choose_interface(environment)
    assert environment == {"MASTER_ADDR": host}


def test_the_way_to_another_machine_and_to_the_first_itself_is_the_same() -> None:
    try:
        _, address = own_address("192.0.2.1")
    except OSError:
        pytest.skip("this machine has no way out")
    away, home = interface_to("192.0.2.1"), interface_to(address)
    assert away == home
    assert away in {name for _, name in socket.if_nameindex()} - {"lo"}


def test_what_the_user_has_set_stays() -> None:
    environment = {"MASTER_ADDR": "192.0.2.1", "GLOO_SOCKET_IFNAME": "ib0"}
    choose_interface(environment)
    assert environment["GLOO_SOCKET_IFNAME"] == "ib0"


def test_towards_itself_a_machine_has_its_loopback_address() -> None:
    assert own_address("127.0.0.1") == (socket.AF_INET, "127.0.0.1")
    with pytest.raises(socket.gaierror):
        own_address("no.such.host.invalid")

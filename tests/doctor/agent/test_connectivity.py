"""Listener and caller, on this machine."""

from __future__ import annotations

import socket
import threading

from mmae.distributed.network_interface import interface_of
from mmae.doctor.agent import connectivity


def test_a_listener_answers_clients_that_know_the_token() -> None:
    listener = connectivity.Listener("secret")
    try:
        assert connectivity.connect("127.0.0.1", listener.port, "secret").problem == ""
        assert "another program" in connectivity.connect("127.0.0.1", listener.port, "guess").problem
        # A stranger that goes away does not end it.
        socket.create_connection(("127.0.0.1", listener.port)).close()
        assert connectivity.connect("localhost", listener.port, "secret").problem == ""
    finally:
        listener.close()
    assert "refused" in connectivity.connect("127.0.0.1", listener.port, "secret").problem.lower()


def test_somebody_else_at_that_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"SSH-2.0-OpenSSH\r\n")
                peer.recv(100)

        thread = threading.Thread(target=greet)
        thread.start()
        assert "another program" in connectivity.connect("127.0.0.1", server.getsockname()[1], "secret").problem
        thread.join()


def test_a_port_that_accepts_and_says_nothing_costs_its_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reached = connectivity.connect("127.0.0.1", server.getsockname()[1], "secret", timeout_s=0.1)
    assert "timed out" in reached.problem


def test_routes() -> None:
    assert connectivity.route_to("127.0.0.1") == connectivity.Route("127.0.0.1", "127.0.0.1", "lo", "")
    assert connectivity.route_to("no-such-host.invalid").problem
    assert interface_of("192.0.2.77") == ""

"""Taken ports are named before anything starts."""

import os
import socket

import pytest

from deploy.embedded.ports import refuse_taken
from deploy.embedded.server import Port, StartError
from tests.conftest import free_port


def test_every_taken_port_is_named_with_its_owner_and_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        taken = [
            ("nginx", Port(number=first.getsockname()[1], setting="VLA_PORT")),
            ("valkey", Port(number=second.getsockname()[1], setting="VLA_VALKEY_PORT")),
        ]
        with pytest.raises(StartError) as refusal:
            refuse_taken([*taken, ("postgres", free_port())])
    lines = str(refusal.value).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"nginx: port {taken[0][1].number} is taken by ")
    assert lines[0].endswith(f"(pid {os.getpid()}); VLA_PORT moves it")
    assert lines[1].endswith("VLA_VALKEY_PORT moves it")


def test_free_ports_pass() -> None:
    refuse_taken([("nginx", free_port())])

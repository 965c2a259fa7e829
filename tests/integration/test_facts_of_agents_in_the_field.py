"""Gathering facts from every agent met in the field, and waiting for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotConnectedError, UnresponsiveError
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import SUBSETS
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol import values
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

from tests.fakes.agent import FakeAgent
from tests.fakes.faults import Instead, Late, On, Silent
from tests.fakes.kinds import BEFORE_1_7, EXTENDED, FIELD, STOCK, Kind
from tests.processes.socket_server import listen_unix
from tests.support.agents_in_the_field import BEHIND_NS, READING_NS, agent_at, details_of, gather, guest, guest_through

WAYS = ("unix", "tcp", "libvirt")


@pytest.mark.parametrize("way", WAYS)
def test_facts_that_the_guests_system_does_not_support_are_called_that(way: str, tmp_path: Path) -> None:
    kind = Kind(unsupported=frozenset(("guest-get-vcpus", "guest-get-fsinfo", "guest-get-disks")))
    with guest_through(way, tmp_path, kind) as (_fake, agent):
        facts = gather(agent, SUBSETS)
    assert {name: error["code"] for name, error in facts["errors"].items()} == dict.fromkeys(
        ("filesystems", "vcpus", "disks"), "not_supported"
    )


class Odd(NamedTuple):
    """What ``command`` returns, and the facts that it stands for."""

    command: str
    subset: str
    value: Any
    facts: Any


INTERFACES = "guest-network-get-interfaces"
ETH0 = {"name": "eth0", "hardware-address": "52:54:00:00:00:01"}
ADDRESS = {"ip-address": "192.0.2.7", "ip-address-type": "ipv4"}
# As agents written in Go, built on cJSON, or built downstream return them.
ODD: Mapping[str, Odd] = {
    "null members": Odd(
        INTERFACES,
        "network",
        [
            {"name": "lo", "hardware-address": None, "ip-addresses": None},
            {**ETH0, "ip-addresses": [{**ADDRESS, "prefix": None}, None], "statistics": None},
        ],
        [
            {"name": "lo"},
            {
                "name": "eth0",
                "hardware_address": "52:54:00:00:00:01",
                "ip_addresses": [{"ip_address": "192.0.2.7", "ip_address_type": "ipv4"}],
            },
        ],
    ),
    "a null list": Odd("guest-get-users", "users", None, []),
    "a null item": Odd("guest-get-fsinfo", "filesystems", [None, {"mountpoint": "/"}], [{"mountpoint": "/"}]),
    "downstream members": Odd(
        "guest-get-osinfo", "os", {"id": "rhel", "__com.redhat_x": {"a": 1}, "__com.redhat_y": 1}, {"id": "rhel"}
    ),
    "numbers as doubles": Odd(
        INTERFACES,
        "network",
        [{"name": "eth0", "statistics": {"rx-bytes": 1.5e3, "tx-bytes": 12884901888.0}}],
        [{"name": "eth0", "statistics": {"rx_bytes": 1500, "tx_bytes": 12884901888}}],
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ODD)
def test_an_odd_value_does_not_cost_the_others(what: str, way: str, tmp_path: Path) -> None:
    odd = ODD[what]
    faults = (On(odd.command, Instead((values.encode({"return": odd.value}),))),)
    with guest_through(way, tmp_path, STOCK, faults=faults) as (_fake, agent):
        facts = gather(agent, SUBSETS)
    assert facts["errors"] == {}
    assert facts[odd.subset] == odd.facts


# ---------------------------------------------------------------------------------------------------------------- facts

EVERYTHING = {subset.name for subset in SUBSETS}


def test_all_facts_of_a_stock_agent(tmp_path: Path) -> None:
    with agent_at(tmp_path), guest(tmp_path) as agent:
        facts = gather(agent, SUBSETS)
    assert facts["errors"] == {}
    assert set(facts) == EVERYTHING | {"errors"}
    assert facts["agent"]["kind"] == "stock"
    assert facts["hostname"] == "fake1"
    assert facts["network"][0]["ip_addresses"][0]["ip_address_type"] == "ipv4"
    assert facts["memory"] == {"block_size": 134217728, "blocks": 2, "online_blocks": 1}
    assert abs(facts["time"]["offset_ns"] - BEHIND_NS) <= facts["time"]["uncertainty_ns"] + READING_NS


def test_the_extended_agent_tells_more_of_its_clock_and_its_commands(tmp_path: Path) -> None:
    with agent_at(tmp_path, EXTENDED), guest(tmp_path) as agent:
        facts = gather(agent, SUBSETS)
        details = details_of(agent, "guest-update-time")
    assert facts["agent"]["kind"] == "extended"
    assert facts["time"]["source"] == "host-message"
    assert facts["time"]["resolution_ns"] == 1
    assert (details["details_from"], details["origin"], details["enabled"]) == ("agent", "extended", True)


@pytest.mark.parametrize("name", FIELD)
def test_facts_of_every_agent_are_had_or_explained(name: str, tmp_path: Path) -> None:
    row = FIELD[name]
    with agent_at(tmp_path, row.kind), guest(tmp_path) as agent:
        facts = gather(agent, SUBSETS)
    errors = facts.pop("errors")
    assert set(facts) | set(errors) == EVERYTHING
    assert not set(facts) & set(errors)
    missing = "frozen" if row.kind.is_frozen else "command_not_found"
    for subset, error in errors.items():
        disabled = subset in ("agent", "commands") if "guest-info" in row.kind.disabled else subset == "time"
        assert error["code"] == ("command_disabled" if disabled and not row.kind.is_frozen else missing), subset
    if row.is_readable:
        offset_ns, uncertainty_ns = facts["time"]["offset_ns"], facts["time"]["uncertainty_ns"]
        assert abs(offset_ns - BEHIND_NS) <= uncertainty_ns + READING_NS


def test_an_agent_before_1_7_has_its_success_responses_from_the_catalogue(tmp_path: Path) -> None:
    with agent_at(tmp_path, BEFORE_1_7), guest(tmp_path) as agent:
        assert agent.info.commands["guest-ping"].success_response is True
        assert agent.info.commands["guest-shutdown"].success_response is False
        assert agent.call("guest-shutdown", timeout=0.5) == {}
        assert agent.call("guest-ping") == {}


def test_one_fact_that_hangs_does_not_cost_the_others(tmp_path: Path) -> None:
    faults = (On("guest-get-fsinfo", Late(0.6)),)
    with agent_at(tmp_path, faults=faults), guest(tmp_path, timeout=0.4) as agent:
        facts = gather(agent, SUBSETS)
    assert {name: error["code"] for name, error in facts["errors"].items()} == {"filesystems": "timeout"}
    assert facts["freeze"] == "thawed"


# -------------------------------------------------------------------------------------------------------------- waiting


@contextmanager
def appearing(directory: Path, seconds: float) -> Iterator[None]:
    """A socket that refuses at first, as QEMU's does between a client that left and an agent that comes."""
    path = directory / "agent.sock"
    listen_unix(path).close()
    over = threading.Event()

    def serve() -> None:
        time.sleep(seconds)
        with FakeAgent(listen_unix(directory / "new.sock")):
            (directory / "new.sock").rename(path)  # at once: a missing socket is not waited for
            over.wait(30.0)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_agent_that_appears_is_waited_for(tmp_path: Path) -> None:
    with appearing(tmp_path, 1.0), guest(tmp_path) as agent:
        started = time.monotonic()
        agent.wait(10.0)
        assert time.monotonic() - started > 0.7
        assert agent.call("guest-ping") == {}


def test_an_agent_that_answers_late_is_waited_for(tmp_path: Path) -> None:
    # The guest boots: the channel is there, and its agent answers the first sync only after a second.
    faults = (On("guest-sync-delimited", Late(1.0), nth=0),)
    with agent_at(tmp_path, faults=faults), guest(tmp_path, timeout=0.3) as agent:
        agent.wait(10.0)
        assert agent.call("guest-ping") == {}


def test_waiting_ends_in_time_with_the_last_reason(tmp_path: Path) -> None:
    listen_unix(tmp_path / "agent.sock").close()
    with guest(tmp_path) as agent:
        started = time.monotonic()
        with pytest.raises(NotConnectedError, match="Connection refused"):
            agent.wait(0.5)
        assert time.monotonic() - started < 10.0
    (tmp_path / "agent.sock").unlink()
    with agent_at(tmp_path, faults=(Silent(),)), guest(tmp_path, timeout=0.3) as agent:
        started = time.monotonic()
        with pytest.raises(UnresponsiveError):
            agent.wait(0.5)
        assert time.monotonic() - started < 10.0


def test_a_missing_socket_fails_at_once_however_long_one_would_wait(tmp_path: Path) -> None:
    with guest(tmp_path) as agent:
        started = time.monotonic()
        with pytest.raises(QgaError) as caught:
            agent.wait(30.0)
        assert caught.value.code == "not_found"
        assert time.monotonic() - started < 10.0

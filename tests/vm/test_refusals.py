"""What cannot be done to a domain is said in one sentence with its code, in time, and without a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt
import libvirt_qemu
import pytest

from tests.processes.ansible_run import run_tasks
from tests.support.correction import MODULE
from tests.vm.guest import Guest

# libvirt has to run, even where a test needs no guest of its own.
pytestmark = pytest.mark.usefixtures("connection")

# A machine without a disk: QEMU and its firmware run, and nothing ever opens the agent's port.
BARE = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {channel}
    <memballoon model='none'/>
  </devices>
  <seclabel type='none'/>
</domain>
"""
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


@contextmanager
def bare_domain(connection: libvirt.virConnect, name: str, channel: str = "") -> Iterator[str]:
    domain = connection.createXML(BARE.format(name=name, channel=channel), 0)
    try:
        yield name
    finally:
        domain.destroy()


def check_refusal(options: dict[str, object], code: str, words: str, most_seconds: float = 10.0) -> None:
    run = run_tasks([{"name": "refused", MODULE: options}])
    (record,) = run.tasks
    error = record.result["error"]
    assert record.outcome == "failed"
    assert error["code"] == code
    assert words in error["message"]
    assert error["hint"]
    assert f"[{code}]" in record.result["msg"]
    assert "Traceback" not in run.output
    assert record.seconds < most_seconds


def test_a_domain_that_does_not_exist() -> None:
    check_refusal({"domain": "qga-nonesuch"}, "not_found", "qga-nonesuch")


def test_a_uuid_that_no_domain_has() -> None:
    check_refusal({"domain": "00000000-1111-4222-8333-444444444444"}, "not_found", "00000000-1111")


@pytest.mark.parametrize("uri", ["qemu:///nonesuch", "nonsense", "qemu+unix:///system?socket=/nonexistent"])
def test_a_wrong_uri(guest: Guest, uri: str) -> None:
    check_refusal({"domain": guest.name, "uri": uri}, "hypervisor_unavailable", uri)


def test_a_paused_guest(guest: Guest) -> None:
    guest.suspend()
    try:
        check_refusal({"domain": guest.name, "wait_timeout": 30}, "not_running", "paused")
    finally:
        guest.resume()


def test_a_guest_that_is_shut_off(connection: libvirt.virConnect) -> None:
    domain = connection.defineXML(BARE.format(name="qga-off", channel=CHANNEL))
    try:
        check_refusal({"domain": "qga-off"}, "not_running", "shut off")
    finally:
        domain.undefine()


def test_a_guest_without_a_channel_fails_at_once_however_long_one_would_wait(connection: libvirt.virConnect) -> None:
    with bare_domain(connection, "qga-mute") as name:
        check_refusal({"domain": name, "wait_timeout": 60}, "not_configured", name)


def test_a_guest_in_which_no_agent_runs(connection: libvirt.virConnect) -> None:
    with bare_domain(connection, "qga-empty", CHANNEL) as name:
        check_refusal({"domain": name}, "not_connected", name)
        check_refusal({"domain": name, "wait_timeout": 2}, "not_connected", name)


def test_a_frozen_guest(guest: Guest, connection: libvirt.virConnect) -> None:
    domain = connection.lookupByName(guest.name)

    def ask(command: str) -> object:
        return json.loads(libvirt_qemu.qemuAgentCommand(domain, json.dumps({"execute": command}), 30, 0))["return"]

    assert ask("guest-fsfreeze-freeze") != 0
    try:
        check_refusal({"domain": guest.name}, "frozen", "frozen")
    finally:
        ask("guest-fsfreeze-thaw")

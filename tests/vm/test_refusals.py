"""Errors on domains: one sentence with a code, in time, and without a traceback."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libvirt
import pytest

from tests.processes.ansible_run import PlaybookRun, run_tasks
from tests.support.correction import MODULE
from tests.vm.guest import Guest

# A machine without a disk: QEMU and its firmware run, but nothing ever opens the agent's port.
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

# Options, the code of the error, and a part of its message.
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no domain of that name": ({"domain": "qga-nonesuch"}, "not_found", "qga-nonesuch"),
    "no hypervisor": ({"domain": "qga-empty", "uri": "nonsense"}, "hypervisor_unavailable", "nonsense"),
    "shut off": ({"domain": "qga-off"}, "not_running", "shut off"),
    "without a channel, despite wait_timeout": (
        {"domain": "qga-mute", "wait_timeout": 60},
        "not_configured",
        "qga-mute",
    ),
    "without an agent": ({"domain": "qga-empty"}, "not_connected", "qga-empty"),
    "without an agent, with wait_timeout": ({"domain": "qga-empty", "wait_timeout": 2}, "not_connected", "qga-empty"),
}


def assert_refused(run: PlaybookRun, task: str, code: str, words: str) -> None:
    (record,) = (record for record in run.tasks if record.task == task)
    error = record.result["guest"]["error"]
    assert (record.outcome, error["code"]) == ("failed", code)
    assert words in error["message"]
    assert error["hint"]
    assert f"[{code}]" in record.result["msg"]
    assert "Traceback" not in run.output
    assert record.seconds < 10.0


@pytest.fixture(scope="module")
def run(connection: libvirt.virConnect) -> Iterator[PlaybookRun]:
    off = connection.defineXML(BARE.format(name="qga-off", channel=CHANNEL))
    bare = [
        connection.createXML(BARE.format(name=name, channel=channel), 0)
        for name, channel in (("qga-mute", ""), ("qga-empty", CHANNEL))
    ]
    try:
        yield run_tasks(
            [{"name": case, MODULE: options, "ignore_errors": True} for case, (options, *_expected) in REFUSED.items()]
        )
    finally:
        off.undefine()
        for domain in bare:
            domain.destroy()


@pytest.mark.parametrize("case", REFUSED)
def test_an_unusable_domain_fails_with_its_code(run: PlaybookRun, case: str) -> None:
    _options, code, words = REFUSED[case]
    assert_refused(run, case, code, words)


@pytest.mark.parametrize(
    ("begin", "end", "code", "word", "wait_s"),
    [
        (Guest.suspend, Guest.resume, "not_running", "paused", 30),
        (
            lambda guest: guest.ask("guest-fsfreeze-freeze"),
            lambda guest: guest.ask("guest-fsfreeze-thaw"),
            "frozen",
            "frozen",
            0,
        ),
    ],
    ids=["paused", "frozen"],
)
def test_a_paused_or_frozen_guest_is_reported_as_such(
    guest: Guest, begin: Callable[[Guest], Any], end: Callable[[Guest], Any], code: str, word: str, wait_s: int
) -> None:
    begin(guest)
    try:
        run = run_tasks([{"name": word, MODULE: {"domain": guest.name, "wait_timeout": wait_s}}])
        assert_refused(run, word, code, word)
    finally:
        end(guest)

"""A tenant who replaced the guest's agent with a malicious one: the modules and libvirt's daemon survive it.

The malicious agents of :mod:`tests.hostile` are shipped into one guest, where they serve the agent's port one after the
other. The witness's port, which they also use meanwhile, selects the next one.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import shlex
import socket
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attacks import ATTACKS, INFO, LIBVIRT, RESYNC, Attack
from tests.hostile.case import Case, Verdict
from tests.hostile.cases import MODULES
from tests.hostile.checks import general_faults
from tests.hostile.in_guest import shipped
from tests.hostile.workers import Worker
from tests.processes.ansible_run import run_tasks
from tests.support.correction import NEAR_NS
from tests.support.tiers import chosen, quick
from tests.support.until import until
from tests.vm.domain_xml import AGENT_PORT, WITNESS_PORT
from tests.vm.guest import Guest
from tests.vm.libvirtd import process as libvirtd_process

HONEST = "none, by the extended agent"

# An order is executed at once, but an emulated guest is slow.
_ORDER_SECONDS = 60.0
# Orders are lost while no process has the port open, and must be sent again.
_ANSWER_SECONDS = 5.0
# A limit for the player, in case it never gets the order to end.
_LONGEST_PLAY_SECONDS = 900

# libvirt's timeouts are whole seconds.
_SECONDS = 1.0
_LONGEST_SECONDS = 90.0

# Attacks that libvirt parses itself, or forwards differently than a socket. Without a nesting of a million levels,
# since libvirt 9.0 crashes on it.
PLAYED: dict[str, tuple[str, ...]] = {
    RESYNC: (
        "none, by the stock agent",
        "silence, at the step",
        "an endless string, at the step",
        "a NUL in a string, at a later reading",
        "invalid UTF-8, at the step",
        "frozen, at the first reading",
        "busy from 1970 to 2262, by the extended agent",
        "the step never done, by the extended agent",
    ),
    INFO: (
        "arrays nested a thousand deep, at a fact",
        "a lone surrogate, at a fact",
        "names that cannot be shown, with the extended agent",
        "facts of thirty thousand objects",
        "endless 0xFF, at all but the sync",
        # libvirt forwards at most 4 MiB, accepts 10, and closes its client's connection on such an error reply.
        "a string of five million characters, at all but the sync",
        "a string of eleven million characters, at all but the sync",
        "a refusal of five million characters, at guest-info",
    ),
}
QUICK = (
    "none, by the stock agent",
    "an endless string, at the step",
    "a NUL in a string, at a later reading",
    "frozen, at the first reading",
    "the step never done, by the extended agent",
    "a lone surrogate, at a fact",
    "names that cannot be shown, with the extended agent",
)
_CHOSEN = [attack for attack in ATTACKS if attack.name in PLAYED.get(attack.work, ())]


class Stage:
    """A guest that plays attacks: ``play`` returns when the attack's agent serves the port."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(_ANSWER_SECONDS)

    def __enter__(self) -> Stage:
        agent, control = (f"/dev/virtio-ports/{port}" for port in (AGENT_PORT, WITNESS_PORT))
        self.guest.sh(f"mkdir -p /run/kit && echo {_packed()} | base64 -d | tar xz -C /run/kit")
        script = (
            "systemctl stop qga-witness qemu-guest-agent; cd /run/kit; "
            f"timeout {_LONGEST_PLAY_SECONDS} python3 -m tests.hostile.in_guest {agent} {control} 2>/run/kit/log; "
            "systemctl start qga-witness qemu-guest-agent"
        )
        # In a unit of its own, since it stops the witness and all processes that the witness started.
        self.guest.witness.start(f"systemd-run --quiet --collect --no-block sh -c {shlex.quote(script)}")
        self._control.connect(str(self.guest.files.witness))
        self._order("rest", b"resting")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._order("end", b"ended")
        self._control.close()
        self.guest.wait_for_agent()
        self.guest.witness.wait(_ORDER_SECONDS)

    def play(self, attack: Attack) -> None:
        # QEMU reports a port's state at most once a second: libvirt must see that the port was closed, or it would
        # treat the new agent as the previous one.
        self._order("rest", b"resting")
        until(
            lambda: not self.guest.agent_is_connected, "libvirt does not report that the agent is gone", _ORDER_SECONDS
        )
        self._order(f"play {attack.work} {attack.name}", b"playing")
        until(
            lambda: self.guest.agent_is_connected, "libvirt does not report that the agent is connected", _ORDER_SECONDS
        )

    def _order(self, order: str, expected: bytes) -> None:
        """Repeat an order until it is answered: at first, the witness or no process has the port open."""

        def is_answered() -> bool:
            self._control.sendall(order.encode() + b"\n")
            received = b""
            with suppress(TimeoutError):
                while not received.endswith(expected + b"\n"):
                    received += self._control.recv(4096)
            return received.endswith(expected + b"\n")

        until(is_answered, f"the player in the guest does not answer the order {order}", _ORDER_SECONDS)


def _packed() -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in shipped():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return base64.b64encode(packed.getvalue()).decode()


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def libvirtd(guest: Guest) -> int | None:  # noqa: ARG001  # it runs for the guest
    """The process ID of the daemon before the attacks."""
    return libvirtd_process()


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest,
    guest: Guest,
    libvirtd: int,  # noqa: ARG001  # as it was before
) -> dict[str, Verdict]:
    """The verdict on each attack, without a reboot in between."""

    def play(attack: Attack) -> Verdict:
        module, options = MODULES[attack.work]
        stage.play(attack)
        return worker.run(Case(module, {**options, "domain": guest.name, "uri": guest.uri, "timeout": _SECONDS}))

    with Worker() as worker, Stage(guest) as stage:
        # These import libvirt, so the attacks' memory does not include that.
        honest = {str(attack): play(attack) for attack in ATTACKS if attack.work in PLAYED and attack.name == HONEST}
        usual_kib = max(verdict.kept_kib for verdict in honest.values())
        played = {str(attack): play(attack) for (attack,) in chosen(request, "attack")}
    above = {name: dataclasses.replace(each, peak_kib=each.peak_kib - usual_kib) for name, each in played.items()}
    return {**honest, **above}


def _honest(verdicts: dict[str, Verdict], work: str) -> dict[str, Any]:
    result = verdicts[f"{work}: {HONEST}"].result
    assert result is not None
    entry: dict[str, Any] = result["guest"]
    return entry


@pytest.mark.parametrize("attack", quick(_CHOSEN, [attack for attack in _CHOSEN if attack.name in QUICK]), ids=str)
def test_an_attack_has_no_effect(attack: Attack, verdicts: dict[str, Verdict]) -> None:
    verdict, honest = verdicts[str(attack)], _honest(verdicts, attack.work)
    assert list(general_faults(LIBVIRT, MODULES[attack.work][0], verdict, honest, attack.codes_by(LIBVIRT))) == []
    assert verdict.seconds < _LONGEST_SECONDS


@pytest.mark.parametrize("work", PLAYED)
def test_an_honest_agent_on_the_same_port_succeeds(work: str, verdicts: dict[str, Verdict]) -> None:
    assert {attack.name for attack in _CHOSEN if attack.work == work} == {*PLAYED[work]}
    entry = _honest(verdicts, work)
    assert entry["status"] in ("corrected", "gathered")
    assert entry.get("errors", {}) == {}


def test_the_daemon_survives_and_the_guests_own_agent_works_again(
    verdicts: dict[str, Verdict],  # noqa: ARG001  # after all of them
    libvirtd: int,
    guest: Guest,
) -> None:
    assert Path(f"/proc/{libvirtd}/comm").read_text().strip() == "libvirtd"
    assert libvirtd_process() == libvirtd
    assert guest.is_running

    guest.witness.step(-3_000_000_000)
    target = {"domain": guest.name, "uri": guest.uri, "wait_timeout": 60.0}
    subset = ["min", "users", "time"]
    run = run_tasks(
        [
            {"name": "clock", "qemu.guest_agent.qga_update_time": target},
            {"name": "facts", "qemu.guest_agent.qga_info": {**target, "gather_subset": subset}},
        ]
    )
    assert run.status == 0, run.output
    assert run.result("clock")["guest"]["status"] == "corrected"
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS
    facts = run.result("facts")["guest"]
    assert (facts["hostname"], facts["agent"]["kind"]) == (guest.name, "stock")

"""A tenant who has put an agent of his own in the place of the guest's: the modules and libvirt's daemon outlive it.

The malicious agents of :mod:`tests.hostile` are shipped into one guest, where they play on the agent's port one after
the other. Which one is told over the witness's port, which is theirs meanwhile.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import shlex
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.attacks import ATTACKS, INFO, LIBVIRT, RESYNC, Attack
from tests.hostile.case import Case, Verdict
from tests.hostile.cases import MODULES
from tests.hostile.checks import Records, general_faults
from tests.hostile.in_guest import SHIPPED
from tests.hostile.workers import Worker
from tests.processes.ansible_run import run_tasks
from tests.support.collection import ROOT
from tests.support.correction import NEAR_NS
from tests.support.tiers import chosen, quick
from tests.support.until import until
from tests.vm.domain_xml import AGENT_PORT, WITNESS_PORT, GuestFiles
from tests.vm.guest import Guest
from tests.vm.libvirtd import process as libvirtd_process
from tests.vm.paths import state_dir

HONEST = "none, by the extended agent"

# An order is carried out at once; the guest's own work, under emulation, takes a while.
_ORDER_SECONDS = 60.0
# What is sent while nobody has the port open is lost, and has to be sent again.
_ANSWER_SECONDS = 5.0
# Beyond any of its own, in case nobody tells it to end.
_LONGEST_PLAY_SECONDS = 900

# libvirt knows whole seconds only.
_SECONDS = 1.0
_LONGEST_SECONDS = 90.0

# Not among them: what is nested a million levels deep, since libvirt 9.0 dies of it.
PLAYED: dict[str, tuple[str, ...]] = {
    RESYNC: (
        "none, by the stock agent",
        "silence, at the step",
        "an endless string, at the step",
        "endless tiny replies, at a later reading",
        "1e999999, at a later reading",
        "a NUL in a string, at a later reading",
        "invalid UTF-8, at the step",
        "a refusal that moves the cursor, at the step",
        "a refusal in sixty thousand characters, at a later reading",
        "frozen, at the first reading",
        "a thousand replies before it, at a later reading",
        "the reply twice, at the step",
        "at it for all of 1970 to 2262, by the extended agent",
        "the step never done, by the extended agent",
        "the step done twice, by the stock agent",
    ),
    INFO: (
        "arrays nested a thousand deep, at a fact",
        "a duplicate key, at a fact",
        "a lone surrogate, at a fact",
        "words, at a fact",
        "a refusal written from right to left, at all but the sync",
        "names that cannot be shown, with the extended agent",
        "facts of thirty thousand objects",
        "endless 0xFF, at all but the sync",
        # libvirt passes on 4 MiB at most, takes 10, and hangs up on its client at such a refusal.
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
    """Where the attacks are played: ``play`` returns when the agent in the guest is that of the attack."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._path = GuestFiles(state_dir() / "guests" / guest.name).witness
        self._control = socket.socket(socket.AF_UNIX)

    def __enter__(self) -> Stage:
        agent, control = (f"/dev/virtio-ports/{port}" for port in (AGENT_PORT, WITNESS_PORT))
        self.guest.sh(f"mkdir -p /run/kit && echo {_packed()} | base64 -d | tar xz -C /run/kit")
        script = (
            "systemctl stop qga-witness qemu-guest-agent; cd /run/kit; "
            f"timeout {_LONGEST_PLAY_SECONDS} python3 -m hostile.in_guest {agent} {control} 2>/run/kit/log; "
            "systemctl start qga-witness qemu-guest-agent"
        )
        # In a unit of its own: it stops the witness, and with that all that the witness has started.
        self.guest.witness.start(f"systemd-run --quiet --collect --no-block sh -c {shlex.quote(script)}")
        self._control.connect(str(self._path))
        self._order("rest", b"resting")
        return self

    def __exit__(self, *_exception: object) -> None:
        self._order("end", b"ended")
        self._control.close()
        self.guest.wait_for_agent()
        self.guest.witness.wait(_ORDER_SECONDS)

    def play(self, attack: Attack) -> None:
        # QEMU tells of a port's changes once a second at most: libvirt must see that it was closed, or it would go on
        # as with the agent before.
        self._order("rest", b"resting")
        until(lambda: not self.guest.agent_is_connected, "libvirt does not say that the agent is gone", _ORDER_SECONDS)
        self._order(f"play {attack.work} {attack.name}", b"playing")
        until(lambda: self.guest.agent_is_connected, "libvirt does not say that the agent is there", _ORDER_SECONDS)

    def _order(self, order: str, expected: bytes) -> None:
        """At first it is still the witness that answers, or nobody, and the order is lost."""
        deadline = time.monotonic() + _ORDER_SECONDS
        answer = b""
        while answer != expected:
            assert time.monotonic() < deadline, f"the player in the guest answers {answer!r} to {order}"
            self._control.sendall(order.encode() + b"\n")
            answer = self._answer(expected)

    def _answer(self, expected: bytes) -> bytes:
        said = b""
        self._control.settimeout(_ANSWER_SECONDS)
        with contextlib.suppress(TimeoutError):
            while not said.endswith(expected + b"\n"):
                said += self._control.recv(4096)
        return said.rpartition(b"\n")[0].rpartition(b"\n")[2]


def _packed() -> str:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name in SHIPPED:
            tar.add(ROOT / "tests" / "hostile" / f"{name}.py", f"hostile/{name}.py")
    return base64.b64encode(packed.getvalue()).decode()


# --------------------------------------------------------------------------------------------------------------- tests


@pytest.fixture(scope="module")
def libvirtd() -> int:
    """The daemon's process."""
    process = libvirtd_process()
    assert process is not None
    return process


@pytest.fixture(scope="module")
def records() -> Iterator[Records]:
    kept = Records()
    yield kept
    kept.write()


def _play(worker: Worker, stage: Stage, attack: Attack) -> Verdict:
    module, options = MODULES[attack.work]
    stage.play(attack)
    target = {"domain": stage.guest.name, "uri": stage.guest.uri}
    return worker.run(Case(module, {**options, **target, "timeout": _SECONDS}))


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest,
    guest: Guest,
    libvirtd: int,  # noqa: ARG001  # as it was before
    records: Records,
) -> dict[str, Verdict]:
    """What came of each attack, without a reboot in between."""
    found = {}
    with Worker() as worker, Stage(guest) as stage:
        for work in (RESYNC, INFO):
            # With these, libvirt itself is imported.
            (honest,) = (attack for attack in ATTACKS if attack.work == work and attack.name == HONEST)
            found[str(honest)] = _play(worker, stage, honest)
        usual_kib = max(verdict.kept_kib for verdict in found.values())
        for (attack,) in chosen(request, "attack"):
            verdict = _play(worker, stage, attack)
            found[str(attack)] = dataclasses.replace(verdict, peak_kib=verdict.peak_kib - usual_kib)
            records.add("libvirt in earnest", "attacks", str(attack), found[str(attack)])
    return found


def _entry(verdicts: dict[str, Verdict], name: str) -> dict[str, Any]:
    result = verdicts[name].result
    assert result is not None
    entry: dict[str, Any] = result["guest"]
    return entry


def test_all_attacks_that_are_named_are_there() -> None:
    assert {attack.name for attack in _CHOSEN} == {name for names in PLAYED.values() for name in names}


@pytest.mark.parametrize("attack", quick(_CHOSEN, [attack for attack in _CHOSEN if attack.name in QUICK]), ids=str)
def test_an_attack_comes_to_nothing(attack: Attack, verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts[str(attack)]
    honest = _entry(verdicts, f"{attack.work}: {HONEST}")
    assert list(general_faults(LIBVIRT, MODULES[attack.work][0], verdict, honest, attack.codes_by(LIBVIRT))) == []
    assert verdict.seconds < _LONGEST_SECONDS


@pytest.mark.parametrize("work", [RESYNC, INFO])
def test_an_honest_agent_on_the_same_port_is_believed(work: str, verdicts: dict[str, Verdict]) -> None:
    entry = _entry(verdicts, f"{work}: {HONEST}")
    assert entry["status"] in ("corrected", "gathered")
    assert entry.get("errors", {}) == {}


def test_the_daemon_lives(
    verdicts: dict[str, Verdict],  # noqa: ARG001  # behind all of them
    libvirtd: int,
    guest: Guest,
) -> None:
    assert Path(f"/proc/{libvirtd}/comm").read_text().strip() == "libvirtd"
    assert libvirtd_process() == libvirtd
    assert guest.is_running


def test_the_guests_own_agent_is_served_again(
    verdicts: dict[str, Verdict],  # noqa: ARG001
    guest: Guest,
) -> None:
    guest.witness.step(-3_000_000_000)
    target = {"domain": guest.name, "uri": guest.uri, "wait_timeout": 60.0}
    run = run_tasks(
        [
            {"name": "clock", "qemu.guest_agent.qga_update_time": target},
            {"name": "facts", "qemu.guest_agent.qga_info": {**target, "gather_subset": ["min", "users", "time"]}},
        ]
    )
    assert run.status == 0, run.output
    assert run.result("clock")["guest"]["status"] == "corrected"
    assert abs(guest.witness.offset().offset_ns) < NEAR_NS
    facts = run.result("facts")["guest"]
    assert facts["hostname"] == guest.name
    assert facts["agent"]["kind"] == "stock"

"""The fixed list of attacks: what a malicious agent does, at what point of which work, and what may come of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from . import false_replies, payloads
from .agent import Action, Asked, HostileAgent, Play, Send, honestly
from .guest import EXTENDED, READS, STEPS, STOCK, Guest

RESYNC = "resync"
INFO = "info"
DETAILS = "details"

LIBVIRT = "libvirt"
HONEST = "none"

# Codes that the collection's README documents.
_SILENT = frozenset(("unresponsive", "timeout"))
_GONE = frozenset(("not_connected",))
_BROKEN = frozenset(("protocol_error",))
_REFUSED = frozenset(("command_failed", "command_not_found", "command_disabled", "frozen", "not_supported"))
_WRONG = frozenset(("not_converged",))

_EVERY = _SILENT | _GONE | _BROKEN | _REFUSED | _WRONG
_BY_LIBVIRT = _SILENT | _GONE | _BROKEN | _REFUSED
# Its daemon dies of some replies, and hangs up on its client at others.
_BREAKING = frozenset(("hypervisor_unavailable",))


@dataclass(frozen=True)
class Attack:
    """``start`` makes what the agent of a guest plays.

    ``codes`` are of the errors that may come of it; ``may_succeed``: a correct result may, too. Through libvirt, which
    has opinions of its own about an agent's bytes, ``_BY_LIBVIRT`` may come as well, or instead. ``is_truthful``: what
    it says of its clock is true, so a result that there is has to be. ``is_patient``: no exchange with it takes time,
    so the time limit can be long enough for any machine.
    """

    name: str
    work: str
    kind: str
    start: Callable[[Guest], Play]
    codes: frozenset[str]
    family: str
    may_succeed: bool = True
    is_truthful: bool = True
    is_patient: bool = False
    greeting: tuple[Action, ...] = ()

    def __str__(self) -> str:
        return f"{self.work}: {self.name}"

    def codes_by(self, channel: str) -> frozenset[str]:
        if channel != LIBVIRT or self.family == HONEST:
            return self.codes
        return self.codes | _BY_LIBVIRT | (_BREAKING if self.family in ("huge", "greeting") else frozenset())

    def agent(self) -> HostileAgent:
        guest = Guest(self.kind)
        return HostileAgent(guest, self.start(guest), self.greeting)


# ---------------------------------------------------------------------------------------------------------- the places

# Made anew for each play: some have to remember what came before.
Place = Callable[[], Callable[[Asked], bool]]


def _on(*commands: str, since: int = 0) -> Place:
    """The request for one of these commands, from the nth of them on."""
    return lambda: lambda asked: asked.command in commands and asked.nth >= since


def _behind_step() -> Callable[[Asked], bool]:
    steps = [0]

    def is_there(asked: Asked) -> bool:
        steps[0] += asked.command in STEPS
        return bool(steps[0]) and asked.command in READS

    return is_there


def _everything() -> Callable[[Asked], bool]:
    return lambda asked: not asked.command.startswith("guest-sync")


_SYNC = ("guest-sync", "guest-sync-delimited")

PLACES: Mapping[str, Mapping[str, Place]] = {
    RESYNC: {
        "at the sync": _on(*_SYNC),
        "at guest-info": _on("guest-info"),
        "at the first reading": _on(*READS),
        "at a later reading": _on(*READS, since=2),
        "at the step": _on(*STEPS),
        "at the verification": _behind_step,
    },
    INFO: {
        "at the sync": _on(*_SYNC),
        "at guest-info": _on("guest-info"),
        "at a fact": _on("guest-get-osinfo"),
        "at all but the sync": _everything,
    },
    DETAILS: {
        "at the details": _on("guest-get-command-info"),
    },
}


def _at(place: Place, make: Callable[[], Play]) -> Callable[[Guest], Play]:
    def start(_guest: Guest) -> Play:
        is_there, hostile = place(), make()

        def play(asked: Asked) -> Iterable[Action]:
            return hostile(asked) if is_there(asked) else [Send(asked.answer())]

        return play

    return start


# -------------------------------------------------------------------------------------------------------- the families


# Behind a step, the measurement is the verdict: it may well have been done, whatever was said of it.
_STEP = "at the step"
_OF_STEP = _WRONG
# An agent may refuse to list its commands, or have the list disabled.
_ABILITIES = "at guest-info"


@dataclass(frozen=True)
class _Family:
    """Payloads of one kind. ``every``: each is at every so many-th place only, and so at all of them by turns."""

    name: str
    payloads: Mapping[str, Callable[[], Play]]
    codes: frozenset[str]
    every: int = 1
    may_succeed: bool = False
    is_truthful: bool = True
    is_patient: bool = False


def _made(plays: Mapping[str, Play]) -> dict[str, Callable[[], Play]]:
    return {name: (lambda play=play: play) for name, play in plays.items()}


_FAMILIES = (
    _Family("silent", _made(payloads.SILENT), _SILENT),
    _Family("endless", _made(payloads.ENDLESS), _SILENT | _BROKEN | _REFUSED, every=3),
    _Family("dripping", _made(payloads.DRIPPING), _SILENT | _BROKEN),
    _Family("closing", _made(payloads.CLOSING), _GONE | _BROKEN | _SILENT),
    _Family("malformed", _made(payloads.MALFORMED), _SILENT | _BROKEN | _REFUSED),
    _Family("huge", _made(payloads.HUGE), _SILENT | _BROKEN | _REFUSED, every=3),
    _Family("refusing", _made(payloads.REFUSING), _REFUSED | _BROKEN | _SILENT),
    _Family("harmless", _made(payloads.HARMLESS), frozenset(), may_succeed=True, is_patient=True),
    _Family("around", _made(payloads.AROUND), _SILENT | _BROKEN | _GONE | _REFUSED, may_succeed=True),
    _Family("repeating", dict(payloads.REPEATING), _EVERY, may_succeed=True, is_truthful=False),
)


def _loaded() -> Iterator[Attack]:
    number = 0
    for family in _FAMILIES:
        for payload, make in family.payloads.items():
            for work, places in PLACES.items():
                for where, place in places.items():
                    number += 1
                    if number % family.every:
                        continue
                    yield Attack(
                        name=f"{payload}, {where}",
                        work=work,
                        # Half of them each; an even number of places would give each place the same kind.
                        kind=EXTENDED if work == DETAILS or number % 5 < 3 else STOCK,
                        start=_at(place, make),
                        codes=family.codes | _OF_STEP if family.codes and where == _STEP else family.codes,
                        family=family.name,
                        may_succeed=_may_succeed(family, work, where),
                        is_truthful=family.is_truthful,
                        is_patient=family.is_patient,
                    )


def _may_succeed(family: _Family, work: str, where: str) -> bool:
    return (
        family.may_succeed
        or where == _STEP
        or (where == _ABILITIES and family.name in ("refusing", "malformed", "huge", "endless"))
        or (work == INFO and where != "at the sync")  # of many facts a few may be missing
        or (work == DETAILS and family.name not in ("silent", "refusing"))  # all of them are optional
    )


def _honest() -> Iterator[Attack]:
    for kind in (STOCK, EXTENDED):
        for work in PLACES if kind == EXTENDED else (RESYNC, INFO):
            yield Attack(
                f"none, by the {kind} agent",
                work,
                kind,
                lambda _guest: honestly,
                frozenset(),
                HONEST,
                is_patient=True,
            )


def _always(play: Play, _guest: Guest) -> Play:
    return play


def _false() -> Iterator[Attack]:
    for kind in (STOCK, EXTENDED):
        for name, play in payloads.SYNCING.items():
            for work in (RESYNC, INFO):
                start = functools.partial(_always, play)
                yield Attack(f"{name}, with the {kind} agent", work, kind, start, _SILENT | _BROKEN, "syncing")
        for name, made in false_replies.CLOCK.items():
            for work in (RESYNC, INFO):
                yield Attack(
                    f"{name}, by the {kind} agent",
                    work,
                    kind,
                    made,
                    _BROKEN | _WRONG,
                    "clock",
                    is_truthful=False,
                    is_patient=True,
                )
        for name, made in false_replies.STEP.items():
            yield Attack(
                f"the step {name}, by the {kind} agent",
                RESYNC,
                kind,
                made,
                _WRONG | _REFUSED | _BROKEN,
                "step",
                is_truthful=name not in false_replies.UNTRUE_STEPS,
                is_patient=True,
            )
        for name, made in false_replies.INFO.items():
            for work in (RESYNC, INFO, DETAILS):
                codes = _BROKEN | _REFUSED
                yield Attack(f"{name}, with the {kind} agent", work, kind, made, codes, "abilities", is_patient=True)


GREETINGS: Mapping[str, bytes] = {
    "a reply": b'{"return": {}}\n',
    "half a reply": b'{"return": "',
    "ten thousand replies": b'{"return": {}}\n' * 10_000,
    "a replayed sync": b'\xff{"return": 5}\n',
    "a million 0xFF": b"\xff" * payloads.MILLION,
    "a million brackets": b"[" * payloads.MILLION,
    "a line": b"Debian GNU/Linux 12 tenant hvc0\r\n\r\nlogin: ",
}


def _greeting() -> Iterator[Attack]:
    for name, data in GREETINGS.items():
        for work in (RESYNC, INFO):
            yield Attack(
                f"{name} for a greeting",
                work,
                EXTENDED,
                lambda _guest: honestly,
                _SILENT | _BROKEN,
                "greeting",
                greeting=(Send(data),),
            )


def _dense() -> Iterator[Attack]:
    for name, start in false_replies.DENSE.items():
        yield Attack(f"facts of {name}", INFO, EXTENDED, start, _BROKEN | _SILENT, "dense")


ATTACKS: tuple[Attack, ...] = (*_honest(), *_loaded(), *_false(), *_greeting(), *_dense())

"""The fixed list of attacks: the behavior of a malicious agent, its place in a run, and the allowed results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.fakes.clock import Clock
from tests.fakes.faults import Pieces
from tests.hostile import false_replies, payloads
from tests.hostile.agent import BEHIND_NS, EXTENDED, READS, STEPS, STOCK, Asked, HostileAgent, Play, honestly

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

_BY_LIBVIRT = _SILENT | _GONE | _BROKEN | _REFUSED
_EVERY = _BY_LIBVIRT | _WRONG
# The daemon crashes on some replies and hangs up on its client on others.
_BREAKING = frozenset(("hypervisor_unavailable",))

# Returns the play of an agent whose guest has this clock.
Start = Callable[[Clock], Play]


@dataclass(frozen=True)
class Attack:
    """``codes`` are the allowed error codes; ``may_succeed``: a correct result is allowed, too.

    libvirt interprets an agent's bytes in its own way, so ``_BY_LIBVIRT`` is allowed as well through libvirt.
    ``is_truthful``: it reports its clock correctly, so a result must be correct. ``is_patient``: its exchanges take no
    time, so the timeout can be long enough for any machine.
    """

    name: str
    work: str
    kind: str
    start: Start
    codes: frozenset[str]
    family: str
    may_succeed: bool = True
    is_truthful: bool = True
    is_patient: bool = False
    greeting: Pieces = ()

    def __str__(self) -> str:
        return f"{self.work}: {self.name}"

    def codes_by(self, channel: str) -> frozenset[str]:
        if channel != LIBVIRT or self.family == HONEST:
            return self.codes
        return self.codes | _BY_LIBVIRT | (_BREAKING if self.family in ("huge", "greeting") else frozenset())

    def agent(self) -> HostileAgent:
        clock = Clock(BEHIND_NS)
        return HostileAgent(self.start(clock), self.kind, clock, self.greeting)


# ---------------------------------------------------------------------------------------------------------- the places

# Created for each play, because some have to remember earlier requests.
Place = Callable[[], Callable[[Asked], bool]]


def _on(*commands: str, since: int = 0) -> Place:
    """Return a place: the requests for these commands, from the nth one on."""
    return lambda: lambda asked: asked.command in commands and asked.nth >= since


def _after_the_step() -> Callable[[Asked], bool]:
    steps = [0]

    def is_there(asked: Asked) -> bool:
        steps[0] += asked.command in STEPS
        return bool(steps[0]) and asked.command in READS

    return is_there


_AT_THE_SYNC = {"at the sync": _on("guest-sync", "guest-sync-delimited"), "at guest-info": _on("guest-info")}

PLACES: Mapping[str, Mapping[str, Place]] = {
    RESYNC: {
        **_AT_THE_SYNC,
        "at the first reading": _on(*READS),
        "at a later reading": _on(*READS, since=2),
        "at the step": _on(*STEPS),
        "at the verification": _after_the_step,
    },
    INFO: {
        **_AT_THE_SYNC,
        "at a fact": _on("guest-get-osinfo"),
        "at all but the sync": lambda: lambda asked: not asked.command.startswith("guest-sync"),
    },
    DETAILS: {
        "at the details": _on("guest-get-command-info"),
    },
}


def _at(place: Place, make: Start) -> Start:
    def start(clock: Clock) -> Play:
        is_there, hostile = place(), make(clock)
        return lambda asked: hostile(asked) if is_there(asked) else honestly(asked)

    return start


# ------------------------------------------------------------------------------------------------ payloads, at a place


@dataclass(frozen=True)
class _Family:
    """Payloads of one kind. ``every``: only every so many-th combination of payload and place is used."""

    name: str
    starts: Mapping[str, Start]
    codes: frozenset[str]
    every: int = 1
    may_succeed: bool = False

    def may_succeed_at(self, work: str, where: str) -> bool:
        # After a step, the measurement decides: the step may have been done, whatever the reply. An agent may refuse to
        # list its commands, or have the list disabled. Some of many facts may be missing. All details are optional.
        return (
            self.may_succeed
            or where == "at the step"
            or (where == "at guest-info" and self.name in ("refusing", "malformed", "huge", "endless"))
            or (work == INFO and where != "at the sync")
            or (work == DETAILS and self.name not in ("silent", "refusing"))
        )


def _always(plays: Mapping[str, Play]) -> dict[str, Start]:
    return {name: (lambda _clock, play=play: play) for name, play in plays.items()}


_FAMILIES = (
    _Family("silent", _always(payloads.SILENT), _SILENT),
    _Family("endless", _always(payloads.ENDLESS), _SILENT | _BROKEN | _REFUSED, every=3),
    _Family("dripping", _always(payloads.DRIPPING), _SILENT | _BROKEN),
    _Family("closing", _always(payloads.CLOSING), _GONE | _BROKEN | _SILENT),
    _Family("malformed", _always(payloads.MALFORMED), _SILENT | _BROKEN | _REFUSED),
    _Family("huge", _always(payloads.HUGE), _SILENT | _BROKEN | _REFUSED, every=3),
    _Family("refusing", _always(payloads.REFUSING), _REFUSED | _BROKEN | _SILENT),
    _Family("harmless", _always(payloads.HARMLESS), frozenset(), may_succeed=True),
    _Family("around", _always(payloads.AROUND), _SILENT | _BROKEN | _GONE | _REFUSED, may_succeed=True),
    _Family("repeating", payloads.REPEATING, _EVERY, may_succeed=True),
)


def _at_places() -> Iterator[Attack]:
    number = 0
    for family in _FAMILIES:
        for payload, make in family.starts.items():
            for work, where, place in ((work, *each) for work, places in PLACES.items() for each in places.items()):
                number += 1
                if number % family.every:
                    continue
                yield Attack(
                    name=f"{payload}, {where}",
                    work=work,
                    # About half of each kind. With a period of two, each place would always get the same kind.
                    kind=EXTENDED if work == DETAILS or number % 5 < 3 else STOCK,
                    start=_at(place, make),
                    codes=family.codes | _WRONG if family.codes and where == "at the step" else family.codes,
                    family=family.name,
                    may_succeed=family.may_succeed_at(work, where),
                    is_truthful=family.name != "repeating",
                    is_patient=family.name == "harmless",
                )


# --------------------------------------------------------------------------------------------- false from the beginning


@dataclass(frozen=True)
class _Set:
    """Attacks that do not depend on a place. ``title`` is formatted with the name and the agent's kind."""

    family: str
    title: str
    starts: Mapping[str, Start]
    codes: frozenset[str]
    works: tuple[str, ...] = (RESYNC, INFO)
    is_truthful: bool = True
    is_patient: bool = True

    def of(self, kind: str) -> Iterator[Attack]:
        for name, start in self.starts.items():
            for work in self.works:
                yield Attack(
                    self.title.format(name, kind),
                    work,
                    kind,
                    start,
                    self.codes,
                    self.family,
                    is_truthful=self.is_truthful and name not in false_replies.UNTRUE_STEPS,
                    is_patient=self.is_patient,
                    greeting=(payloads.GREETINGS[name],) if self.family == "greeting" else (),
                )


_NO_ATTACK = _always({"none": honestly})
_SYNCING = _always(payloads.SYNCING)
_AFTER_A_GREETING = _always(dict.fromkeys(payloads.GREETINGS, honestly))

_FALSE = (
    _Set("syncing", "{}, with the {} agent", _SYNCING, _SILENT | _BROKEN, is_patient=False),
    _Set("clock", "{}, by the {} agent", false_replies.CLOCK, _BROKEN | _WRONG, is_truthful=False),
    _Set("step", "the step {}, by the {} agent", false_replies.STEP, _WRONG | _REFUSED | _BROKEN, (RESYNC,)),
    _Set("abilities", "{}, with the {} agent", false_replies.INFO, _BROKEN | _REFUSED, (RESYNC, INFO, DETAILS)),
)

ATTACKS: tuple[Attack, ...] = (
    *_Set(HONEST, "{}, by the {} agent", _NO_ATTACK, frozenset()).of(STOCK),
    *_Set(HONEST, "{}, by the {} agent", _NO_ATTACK, frozenset(), (RESYNC, INFO, DETAILS)).of(EXTENDED),
    *_at_places(),
    *(attack for kind in (STOCK, EXTENDED) for each in _FALSE for attack in each.of(kind)),
    *_Set("greeting", "{} as a greeting", _AFTER_A_GREETING, _SILENT | _BROKEN, is_patient=False).of(EXTENDED),
    *_Set("dense", "facts of {}", false_replies.DENSE, _BROKEN | _SILENT, (INFO,), is_patient=False).of(EXTENDED),
)

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Listing the guests of one or many hypervisors: which there are, in which state, with the facts of their agents.

A hypervisor that cannot be reached hides none of the others' guests, and all guests that keep silent cost no more than
one time limit. The listing can be kept in a cache of Ansible's, and is read back without trusting what is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any, Mapping, NamedTuple, Sequence

from ...module_utils._errors import GuestsFailedError, detached
from ...module_utils._event_loop.multiplexer import Multiplexer
from ...module_utils._event_loop.tasks import Deadline
from ...module_utils._facts.addresses import MACS, with_macs
from ...module_utils._facts.subsets import gathering
from ...module_utils._fleet.domains import guest_of, select_domains
from ...module_utils._fleet.results import GuestResult, Work, internal_error, listed
from ...module_utils._fleet.runner import RunOptions, run_all
from ...module_utils._fleet.selection import Selected
from ...module_utils._hypervisor.connections import Hypervisor
from ...module_utils._hypervisor.domains import Domain, list_domains
from ...module_utils._hypervisor.numbers import STATE_NAMES, state_name
from ...module_utils._protocol.errors import QgaError
from ...module_utils._protocol.limits import FACTS_REPLIES

STATES = STATE_NAMES

STATUSES = ("ok", "skipped", "failed")

# Of the form that is kept. Another one is not read.
_VERSION = 1

# For silent guests in all, beside one time limit. They wait while the others are asked, which takes longer if there are
# more of them.
_SECONDS_PER_GUEST = 0.0025

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Query:
    """Which guests are asked, and for what.

    ``wanted`` and ``excluded`` are entries as of the modules' ``domains`` and ``exclude``. ``is_strict``: a hypervisor
    that cannot be reached is an error. ``timeout`` is in seconds for each exchange.
    """

    uris: tuple[str, ...]
    wanted: tuple[str, ...]
    excluded: tuple[str, ...]
    states: tuple[str, ...]
    gather_subset: tuple[str, ...]
    timeout: float
    concurrency: int
    is_strict: bool = False

    def digest(self) -> str:
        """A text that no other query has; fit to be part of a file's name."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ListedGuest:
    """One domain. ``state`` is one of :data:`STATES`; ``status``, one of :data:`STATUSES`, is the agent's.

    ``facts`` are by subset name, as qga_info returns them; ``error`` is why there are none. ``macs`` are the addresses
    of the domain's network devices, by the hypervisor's word and in its order, if ``facts`` has the guest's network.
    """

    uri: str
    name: str
    uuid: str
    state: str
    status: str
    facts: Mapping[str, Any]
    error: Mapping[str, str] | None = None
    macs: tuple[str, ...] = ()

    @classmethod
    def of_dict(cls, value: Any) -> ListedGuest:
        """
        :raises ValueError: this is not what a listing keeps of a guest
        """
        if not isinstance(value, Mapping) or set(value) != set(cls.__dataclass_fields__):
            raise ValueError("these are not the members of a guest")
        if not isinstance(value["macs"], list):
            raise ValueError("the addresses of a guest are no list")
        read = cls(**{**value, "macs": tuple(value["macs"])})
        if (
            not all(isinstance(text, str) for text in (read.uri, read.name, *read.macs))
            or read.state not in STATES
            or read.status not in STATUSES
            or _UUID.match(str(read.uuid)) is None
            or not isinstance(read.facts, Mapping)
            or not isinstance(read.error, (Mapping, type(None)))
        ):
            raise ValueError("a member of a guest has another type")
        return read


@dataclass(frozen=True)
class Listing:
    """``is_complete``: every hypervisor was reached. ``warnings`` are sentences."""

    guests: tuple[ListedGuest, ...]
    warnings: tuple[str, ...] = ()
    is_complete: bool = True

    def as_dict(self) -> dict[str, Any]:
        guests = [{**vars(guest), "macs": list(guest.macs)} for guest in self.guests]
        return {"version": _VERSION, "guests": guests, "warnings": list(self.warnings)}

    @classmethod
    def of_dict(cls, kept: Any) -> Listing | None:
        """The listing that was kept, in plain types; None: it is something else."""
        try:
            plain = json.loads(json.dumps(kept))
            if not isinstance(plain, Mapping) or plain.get("version") != _VERSION:
                return None
            warnings = tuple(warning for warning in plain["warnings"] if isinstance(warning, str))
            return cls(tuple(map(ListedGuest.of_dict, plain["guests"])), warnings)
        except (KeyError, TypeError, ValueError):
            return None


def list_guests(query: Query) -> Listing:
    """
    :raises InvalidOptionError: there is no subset of such a name
    :raises MissingLibraryError: libvirt-python is not installed
    :raises QgaError: no hypervisor could be reached, or not all if that is required
    """
    work = with_macs(gathering(query.gather_subset))
    with contextlib.ExitStack() as stack:
        uris = dict.fromkeys(query.uris)
        hypervisors = {uri: stack.enter_context(contextlib.closing(Hypervisor(uri))) for uri in uris}
        found = _domains_of(hypervisors, query.timeout)
        lost = {uri: each for uri, each in found.items() if isinstance(each, QgaError)}
        if lost and (query.is_strict or len(lost) == len(hypervisors)):
            raise next(iter(lost.values()))
        domains = {uri: each for uri, each in found.items() if not isinstance(each, QgaError)}
        targets, warnings = _selected(query, domains)
        results = _asked(query, hypervisors, targets, work)
    unreached = tuple(f"The guests of {uri} are missing: {error.message}. {error.hint}" for uri, error in lost.items())
    guests = tuple(_listed_guest(each, which) for each, which in zip(results, targets))
    return Listing(guests, (*unreached, *warnings), is_complete=not lost)


def failure_of(guests: Sequence[ListedGuest]) -> GuestsFailedError | None:
    """The error of the guests that failed, in one sentence; None: there is none."""
    bad = [(guest.name, (guest.error or {}).get("code", "")) for guest in guests if guest.status == "failed"]
    if not bad:
        return None
    return GuestsFailedError(
        f"of {len(bad)} of {len(guests)} guests the agent told nothing: {listed(bad)}",
        "Look at their agents, or leave out strict_agents to have such guests without facts.",
    )


def _domains_of(hypervisors: Mapping[str, Hypervisor], timeout: float) -> Mapping[str, tuple[Domain, ...] | QgaError]:
    """By URI, or why it cannot be asked; they are asked side by side."""

    async def list_one(hypervisor: Hypervisor) -> tuple[Domain, ...] | QgaError:
        try:
            return await list_domains(hypervisor.lines[0], timeout)
        except QgaError as error:
            return detached(error)
        except Exception as error:  # pylint: disable=broad-exception-caught  # it is not the others' trouble
            return internal_error(error)

    found: dict[int, tuple[Domain, ...] | QgaError] = {}
    multiplexer: Multiplexer[tuple[Domain, ...] | QgaError] = Multiplexer(len(hypervisors), found.__setitem__)
    multiplexer.run(map(list_one, hypervisors.values()))
    return {uri: found[number] for number, uri in enumerate(hypervisors)}


class _Target(NamedTuple):
    uri: str
    selected: Selected
    domain: Domain

    @property
    def state(self) -> str:
        """One of :data:`STATES`."""
        return state_name(self.domain.state)


def _selected(query: Query, by_uri: Mapping[str, Sequence[Domain]]) -> tuple[tuple[_Target, ...], tuple[str, ...]]:
    stale, warnings = _stale_definitions(by_uri)
    found: list[_Target] = []
    missed: list[set[str]] = []
    repeated: dict[str, None] = {}
    for uri, domains in by_uri.items():
        by_uuid = {domain.uuid: domain for domain in domains}
        selection = select_domains(domains, query.wanted, query.excluded)
        found += [
            _Target(uri, selected, by_uuid[selected.candidate.key])
            for selected in selection.guests
            if selected.candidate is not None
        ]
        missed.append({*selection.unmatched, *(each.name for each in selection.guests if each.candidate is None)})
        repeated.update(dict.fromkeys(selection.repeated))
    # What one hypervisor does not have, another one may.
    for entry in [entry for entry in query.wanted if all(entry in each for each in missed)]:
        warnings.append(f"The entry {entry} of domains fits no domain at {', '.join(by_uri)}.")
    warnings += [f"{name} is named more than once in domains; it is one host." for name in repeated]
    return (
        tuple(each for each in found if (each.uri, each.domain.uuid) not in stale and each.state in query.states),
        tuple(warnings),
    )


def _stale_definitions(by_uri: Mapping[str, Sequence[Domain]]) -> tuple[set[tuple[str, str]], list[str]]:
    """Definitions that stayed where their guest was moved from: of the same UUID, one runs and others do not."""
    places: dict[str, list[tuple[str, Domain]]] = {}
    for uri, domains in by_uri.items():
        for domain in domains:
            places.setdefault(domain.uuid, []).append((uri, domain))
    left: set[tuple[str, str]] = set()
    warnings = []
    for uuid, several in places.items():
        running = [uri for uri, domain in several if domain.is_running]
        if len(several) > 1 and len(running) == 1:
            others = [uri for uri, domain in several if not domain.is_running]
            left.update((uri, uuid) for uri in others)
            warnings.append(
                f"Domain {several[0][1].name} runs at {running[0]}; "
                f"its definition at {', '.join(others)} does not run, has the same UUID, and is left out."
            )
    return left, warnings


def _asked(
    query: Query, hypervisors: Mapping[str, Hypervisor], targets: Sequence[_Target], work: Work
) -> Sequence[GuestResult]:
    guests = [
        guest_of(each.selected, each.domain, hypervisors[each.uri], FACTS_REPLIES, not each.selected.by_name)
        for each in targets
    ]
    patience = time.monotonic() + query.timeout + len(guests) * _SECONDS_PER_GUEST
    for hypervisor in hypervisors.values():
        hypervisor.give_up_held_back_at(patience)
    return run_all(guests, work, RunOptions(query.timeout), query.concurrency, Deadline(math.inf))


def _listed_guest(result: GuestResult, target: _Target) -> ListedGuest:
    known = (target.uri, target.domain.name, target.domain.uuid, target.state)
    entry = dict(result.entry)
    if result.status in ("skipped", "failed"):
        return ListedGuest(*known, result.status, {}, entry.get("reason") or entry.get("error"))
    macs = entry.pop(MACS, ())
    return ListedGuest(*known, "ok", entry, macs=macs)

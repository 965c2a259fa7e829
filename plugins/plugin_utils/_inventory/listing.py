# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lists the guests of one or more hypervisors, with their states and the facts from their agents.

A hypervisor that cannot be reached does not hide other guests, and all unresponsive guests together cost one timeout.
Ansible's cache can keep the listing; it is validated when it is read back.
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

# The version of the cached form. Other versions are not read.
_VERSION = 1

# Added to the timeout for all unresponsive guests together: they wait while the others are queried, which takes longer
# with more guests.
_SECONDS_PER_GUEST = 0.0025

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Query:
    """The selection of guests, and the facts to gather.

    ``wanted`` and ``excluded`` have entries as in the modules' ``domains`` and ``exclude``. ``is_strict``: a hypervisor
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
        """Return a text that is unique for this query and can be part of a file name."""
        return hashlib.sha256(json.dumps(vars(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ListedGuest:
    """One domain. ``state`` is one of :data:`STATES`; ``status`` is the agent's, one of :data:`STATUSES`.

    ``facts`` are by subset, as qga_info returns them; without facts, ``error`` is the reason. ``macs`` are the
    addresses of the domain's network devices in the hypervisor's order, if ``facts`` has the guest's network.
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
        :raises ValueError: this is not a guest of a cached listing
        """
        if not isinstance(value, Mapping) or set(value) != set(cls.__dataclass_fields__):
            raise ValueError("a cached guest has the wrong members")
        if not isinstance(value["macs"], list):
            raise ValueError("the addresses of a cached guest are not a list")
        read = cls(**{**value, "macs": tuple(value["macs"])})
        if (
            not all(isinstance(text, str) for text in (read.uri, read.name, *read.macs))
            or read.state not in STATES
            or read.status not in STATUSES
            or _UUID.match(str(read.uuid)) is None
            or not isinstance(read.facts, Mapping)
            or not isinstance(read.error, (Mapping, type(None)))
        ):
            raise ValueError("a member of a cached guest has the wrong type or value")
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
        """Return the cached listing in plain types, or None if the cache has anything else."""
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
    :raises InvalidOptionError: a subset does not exist
    :raises MissingLibraryError: libvirt-python is not installed
    :raises QgaError: no hypervisor could be reached, or with ``is_strict`` not all
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
        targets, warnings = _select(query, domains)
        results = _gather(query, hypervisors, targets, work)
    unreached = tuple(f"The guests of {uri} are missing: {error.message}. {error.hint}" for uri, error in lost.items())
    guests = tuple(_listed_guest(each, which) for each, which in zip(results, targets))
    return Listing(guests, (*unreached, *warnings), is_complete=not lost)


def failure_of(guests: Sequence[ListedGuest]) -> GuestsFailedError | None:
    """Return one error for all guests that failed, or None if no guest failed."""
    bad = [(guest.name, (guest.error or {}).get("code", "")) for guest in guests if guest.status == "failed"]
    if not bad:
        return None
    return GuestsFailedError(
        f"{len(bad)} of {len(guests)} guests returned no facts: {listed(bad)}",
        "Check their agents, or do not set strict_agents, to include such guests without facts.",
    )


def _domains_of(hypervisors: Mapping[str, Hypervisor], timeout: float) -> Mapping[str, tuple[Domain, ...] | QgaError]:
    """Return the domains by URI, or the error of a hypervisor. All hypervisors are queried at the same time."""

    async def list_one(hypervisor: Hypervisor) -> tuple[Domain, ...] | QgaError:
        try:
            return await list_domains(hypervisor.lines[0], timeout)
        except QgaError as error:
            return detached(error)
        except Exception as error:  # pylint: disable=broad-exception-caught  # other hypervisors continue
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


def _select(query: Query, by_uri: Mapping[str, Sequence[Domain]]) -> tuple[tuple[_Target, ...], tuple[str, ...]]:
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
    # An entry that matches nothing at one hypervisor may match at another one.
    for entry in [entry for entry in query.wanted if all(entry in each for each in missed)]:
        warnings.append(f"The entry '{entry}' of domains matches no domain at {', '.join(by_uri)}.")
    warnings += [f"'{name}' is listed more than once in domains; it becomes one host." for name in repeated]
    return (
        tuple(each for each in found if (each.uri, each.domain.uuid) not in stale and each.state in query.states),
        tuple(warnings),
    )


def _stale_definitions(by_uri: Mapping[str, Sequence[Domain]]) -> tuple[set[tuple[str, str]], list[str]]:
    """Return the definitions that a migration left on the old hypervisor, and warnings: of the domains with one UUID,
    only one runs.
    """
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
                f"Domain '{several[0][1].name}' runs at {running[0]}; "
                f"the domain at {', '.join(others)} has the same UUID, does not run, and is left out."
            )
    return left, warnings


def _gather(
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

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the tasks of a run registered to what came of each hypervisor, in the form that reports are made of.

First the guests are listed, which asks none of them; then they are worked on in batches. Either can fail as a whole.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Sequence

from ...module_utils._untrusted import visible

NOWHERE = "(nowhere)"

_LONGEST_MESSAGE = 1000
_OF_ANSIBLE = "Task failed: "  # ansible-core 2.19 puts it before what a task says

Entry = Mapping[str, Any]
Outcome = Dict[str, Any]


def outcome(host: str, listed: Entry, batches: Sequence[Entry]) -> Outcome:
    """What came of one hypervisor. ``batches`` are the results of a loop with the variable ``qga_batch``.

    :raises TypeError: these are no registered results
    """
    results = [_result(each) for each in (listed, *_items(batches))]
    errors = [_error(each) for each in results if "guests" not in each]
    set_aside = [guest for guest in _set_aside(listed) if not _is_elsewhere(guest)]
    worked_on = [guest for batch in results[1:] for guest in _guests(batch)]
    lost = [guest for batch in results[1:] if "guests" not in batch for guest in _lost(batch)]
    return {"host": host, "guests": [*set_aside, *worked_on, *lost], "error": errors[0] if errors else None}


def found(host: str, listed: Entry) -> Outcome:
    """What has to be known of one hypervisor by all others, without all that is known of its guests.

    :raises TypeError: this is no registered result
    """
    # They were named themselves, and are on another hypervisor or on none.
    not_here = [guest.get("name") for guest in _set_aside(listed) if _is_elsewhere(guest)]
    return {
        "host": host,
        "answered": "guests" in _result(listed),
        "count": len(_guests(listed)) - len(not_here),
        "not_here": not_here,
    }


def elsewhere(hosts: Iterable[str], everywhere: Sequence[Entry], somewhere: Iterable[Entry]) -> list[Outcome]:
    """Outcomes beside those of the hypervisors: of hypervisors that have none, and of guests that are on none.

    ``everywhere`` is what was :func:`found`, ``somewhere`` all guests of all hypervisors; these are looked at only if
    one is missing.

    :raises TypeError: these are no such things
    """
    known = {each.get("host") for each in map(_mapping, everywhere)}
    stopped = [
        {"host": host, "error": _problem("stopped", "a task failed on the way, and said why"), "guests": []}
        for host in sorted(set(hosts) - known)
    ]
    return [*stopped, *_nowhere(list(map(_mapping, everywhere)), somewhere)]


def _nowhere(everywhere: Sequence[Entry], somewhere: Iterable[Entry]) -> list[Outcome]:
    missing = {name for each in everywhere for name in _items(each.get("not_here"))}
    if missing:
        # Who names a guest need not know where it is. But if it is nowhere, that is a failure.
        for guest in map(_mapping, _items(somewhere)):
            missing -= {guest.get("name"), guest.get("uuid")}
    if missing:
        why = _problem("not_found", "no hypervisor that answered has it")
        guests = [{"name": name, "status": "failed", "error": why} for name in sorted(missing, key=str)]
        return [{"host": NOWHERE, "error": None, "guests": guests}]
    counts = [each.get("count") for each in everywhere if each.get("answered")]
    if counts and not any(counts):
        return [{"host": NOWHERE, "error": _problem("not_found", "no guest was found at all"), "guests": []}]
    return []


def _lost(batch: Entry) -> list[Outcome]:
    """The guests of a batch that failed as a whole share its error."""
    error = _error(batch)
    return [{**_mapping(guest), "status": "failed", "error": error} for guest in _items(batch.get("qga_batch"))]


def _error(result: Entry) -> Outcome:
    error = result.get("error")
    if isinstance(error, Mapping):
        return dict(error)
    message = result.get("msg")
    if not isinstance(message, str):
        message = "the task gave no result"
    if message.startswith(_OF_ANSIBLE):
        message = message[len(_OF_ANSIBLE) :]
    return _problem("unreachable" if result.get("unreachable") else "module_failed", visible(message, _LONGEST_MESSAGE))


def _problem(code: str, message: str) -> Outcome:
    return {"code": code, "message": message, "hint": ""}


def _set_aside(listed: Entry) -> list[Entry]:
    """The guests that are not to be worked on."""
    return [guest for guest in _guests(listed) if guest.get("status") != "gathered"]


def _is_elsewhere(guest: Entry) -> bool:
    return any(_mapping(guest.get(why)).get("code") == "not_found" for why in ("reason", "error"))


def _guests(result: Entry) -> list[Entry]:
    return [_mapping(guest) for guest in _items(_result(result).get("guests"))]


def _items(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"these are registered results only if they are a list, not of type {type(value).__name__}")
    return value


def _mapping(value: Any) -> Entry:
    return value if isinstance(value, Mapping) else {}


def _result(value: Any) -> Entry:
    if not isinstance(value, Mapping):
        raise TypeError(f"what a task registered is a dict, not of type {type(value).__name__}")
    return value

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The results of a run, collected from the results that its tasks registered.

One task lists the guests without contacting them; another one works through them in batches. Each can fail as a whole.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Sequence

from ...module_utils._untrusted import visible
from .codes import HINTS, MODULE_FAILED, STOPPED, UNREACHABLE

_LONGEST_MESSAGE = 1000
_NO_GUESTS_HINT = "Check the names and patterns of the selection, and its exclusions."
_PREFIX = "Task failed: "  # ansible-core 2.19 begins a task's message with it

Entry = Mapping[str, Any]
Result = Dict[str, Any]


def collected(host: str, listed: Entry, batches: Sequence[Entry]) -> Result:
    """Return the result of one hypervisor. ``batches`` are the results of a loop with the variable ``qga_batch``.

    :raises TypeError: these are not registered results
    """
    results = [_result(each) for each in (listed, *_items(batches))]
    errors = [_error(each) for each in results if "guests" not in each]
    set_aside = [guest for guest in _guests(listed) if guest.get("status") != "gathered"]
    # They were named, and are on another hypervisor or on none.
    not_here = [guest.get("name") for guest in set_aside if _is_not_here(guest)]
    here = [guest for guest in set_aside if not _is_not_here(guest)]
    worked_on = [guest for batch in results[1:] for guest in _guests(batch)]
    lost = [guest for batch in results[1:] if "guests" not in batch for guest in _lost(batch)]
    return _made(host, [*here, *worked_on, *lost], errors[0] if errors else None, not_here, _host_clock(results))


def completed(results: Sequence[Entry], hosts: Iterable[str]) -> list[Entry]:
    """Return the results, and add those of hypervisors that have none, and the names that are on no hypervisor.

    :raises TypeError: these are not results
    """
    results = [_mapping(each) for each in _items(results)]
    nowhere = _nowhere(results)
    is_empty = not nowhere and not any(each.get("guests") for each in results)
    nothing = _problem("not_found", "no guests found", _NO_GUESTS_HINT)
    without = sorted(set(hosts) - {each.get("host") for each in results})
    stopped = [_made(host, [], _problem(STOPPED, "an earlier task failed; see its message"), []) for host in without]
    return [
        {
            **each,
            # A hypervisor without an error has listed its guests.
            "error": each.get("error") or (nothing if is_empty else None),
            "not_found": [name for name in _items(each.get("not_here")) if name in nowhere],
        }
        for each in (*results, *stopped)
    ]


def _nowhere(results: Sequence[Entry]) -> set[Any]:
    """Return the names that no hypervisor has. A guest may be named without its hypervisor."""
    missing = {name for each in results for name in _items(each.get("not_here"))}
    if missing:
        for each in results:
            for guest in _guests(each):
                missing -= {guest.get("name"), guest.get("uuid")}
    return missing


def _made(
    host: str, guests: list[Entry], error: Result | None, not_here: list[Any], host_clock: Entry | None = None
) -> Result:
    failed, skipped = (sum(guest.get("status") == status for guest in guests) for status in ("failed", "skipped"))
    summary = {"total": len(guests), "failed": failed, "skipped": skipped}
    return {
        "host": host,
        "guests": guests,
        "error": error,
        "summary": summary,
        "not_here": not_here,
        "host_clock": host_clock,
    }


def _host_clock(results: Sequence[Entry]) -> Entry | None:
    """Return the state of the hypervisor's clock: not synchronized if it was so at one task, else the last one.

    A task that failed has it, too, and so has the listing where there are no batches.
    """
    clocks = [result["host_clock"] for result in results if isinstance(result.get("host_clock"), Mapping)]
    return next((clock for clock in clocks if clock.get("synchronized") is False), clocks[-1] if clocks else None)


def _lost(batch: Entry) -> list[Entry]:
    """Return the guests of a batch that failed as a whole, with its error."""
    error = _error(batch)
    return [{**_mapping(guest), "status": "failed", "error": error} for guest in _items(batch.get("qga_batch"))]


def _error(result: Entry) -> Result:
    error = result.get("error")
    if isinstance(error, Mapping):
        return dict(error)
    message = result.get("msg")
    if not isinstance(message, str):
        message = "the task returned no result"
    if message.startswith(_PREFIX):
        message = message[len(_PREFIX) :]
    return _problem(UNREACHABLE if result.get("unreachable") else MODULE_FAILED, visible(message, _LONGEST_MESSAGE))


def _problem(code: str, message: str, hint: str = "") -> Result:
    return {"code": code, "message": message, "hint": hint or HINTS.get(code, "")}


def _is_not_here(guest: Entry) -> bool:
    return any(_mapping(guest.get(why)).get("code") == "not_found" for why in ("reason", "error"))


def _guests(result: Entry) -> list[Entry]:
    return [_mapping(guest) for guest in _items(_result(result).get("guests"))]


def _items(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"registered results must be a list, not of type {type(value).__name__}")
    return value


def _mapping(value: Any) -> Entry:
    return value if isinstance(value, Mapping) else {}


def _result(value: Any) -> Entry:
    if not isinstance(value, Mapping):
        raise TypeError(f"a registered result must be a dict, not of type {type(value).__name__}")
    return value

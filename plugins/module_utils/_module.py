# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules share: the options that name a guest, and the form of results. The only file here on Ansible."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from ._errors import sentence
from ._event_loop import tasks
from ._event_loop.tasks import Deadline
from ._fleet.results import Attended, Work, attend, count, defect, ended, failed, verdict
from ._fleet.runner import Attendance, Guest, converse
from ._protocol.errors import QgaError
from ._protocol.values import Limits
from ._ranges import check_numbers
from ._targets import names_many, target_of

TARGET_SPEC: dict[str, dict[str, Any]] = {
    "domain": {"type": "str"},
    "domains": {"type": "list", "elements": "str"},
    "uri": {"type": "str", "default": "qemu:///system"},
    "socket": {"type": "path"},
    "sockets": {"type": "list", "elements": "path"},
    "address": {"type": "str"},
    "vsock": {"type": "str"},
    "timeout": {"type": "float", "default": 5.0},
    "wait_timeout": {"type": "float", "default": 0.0},
    "exclude": {"type": "list", "elements": "str", "default": []},
    "skip_unusable": {"type": "bool", "default": False},
    "allow_empty": {"type": "bool", "default": False},
    "concurrency": {"type": "int", "default": 20},
    "deadline": {"type": "float"},
    "fail_on": {"type": "str", "choices": ["any", "all", "none"], "default": "any"},
}

# Of a thousand guests with the same trouble, a few sentences say all; each entry has its own.
_MOST_SENTENCES = 10

Prepare = Callable[[Mapping[str, Any]], Work]
Summarize = Callable[[Sequence[Attended]], Mapping[str, Any]]


def run(
    module: AnsibleModule,
    prepare: Prepare,
    statuses: Sequence[str],
    limits: Limits,
    summarize: Summarize = lambda _attended: {},
    touches_clock: bool = False,
) -> None:
    """Do one thing to the guests that the module's options name, and end the module.

    ``prepare`` checks the module's own options before a guest is touched, and returns what is done with an agent.
    ``statuses`` are what its outcomes may be, ``limits`` are on each message of a guest, and ``summarize`` adds to the
    summary of many guests.
    """
    params = module.params
    started_ns = time.monotonic_ns()
    deadline = Deadline(math.inf if params["deadline"] is None else params["deadline"])
    warnings: tuple[str, ...] = ()
    attended: Sequence[Attended]
    try:
        check_numbers(params)
        is_fleet = names_many(params)
        work = prepare(params)
        attendance = Attendance(params["timeout"], params["wait_timeout"], touches_clock)
        if is_fleet:
            from ._fleet.finding import fleet_of  # one guest needs none of it

            with fleet_of(params, limits) as fleet:
                warnings = fleet.warnings
                attended = attend(fleet.guests, work, attendance, params["concurrency"], deadline)
        else:
            attended = (_attend_one(params, limits, work, attendance),)
    except QgaError as error:
        _fail(module, error, changed=False)
        return
    for warning in (*warnings, *_warnings(attended)):
        module.warn(warning)
    result = _result(attended)
    if is_fleet:
        result["summary"] = {
            **count(attended, statuses),
            **summarize(attended),
            "duration_ns": time.monotonic_ns() - started_ns,
        }
        if module._diff:
            result["diff"] = [_headed(each) for each in attended if each.outcome.diff is not None]
        problem: QgaError | None = verdict(attended, params["fail_on"])
    else:
        if attended[0].outcome.diff is not None:
            result["diff"] = attended[0].outcome.diff
        problem = attended[0].outcome.error
    if problem is not None:
        _fail(module, problem, **result)
    else:
        module.exit_json(**result, **_message(attended))


def _attend_one(params: Mapping[str, Any], limits: Limits, work: Work, attendance: Attendance) -> Attended:
    """
    :raises InvalidOptionError: the guest's name cannot be one
    """
    target = target_of(params, limits)
    guest = Guest(target.name, target.open)
    try:
        return ended(guest, tasks.run(converse(guest.open, work, attendance)))
    except QgaError as error:
        return failed(guest, error)
    except Exception as error:  # pylint: disable=broad-exception-caught  # what a guest sent led to it
        return failed(guest, defect(error))


def _result(attended: Sequence[Attended]) -> dict[str, Any]:
    guests = [each.as_dict() for each in attended]
    result: dict[str, Any] = {"changed": any(each.outcome.changed for each in attended), "guests": guests}
    if len(guests) == 1:
        result["guest"] = guests[0]
    return result


def _message(attended: Iterable[Attended]) -> dict[str, str]:
    """``msg`` of a task that succeeded, if there is something to say."""
    found = [f"{each.guest.name}: {each.outcome.message}" for each in attended if each.outcome.message is not None]
    return {"msg": "; ".join(_capped(found, "guests"))} if found else {}


def _headed(each: Attended) -> dict[str, str]:
    return {**(each.outcome.diff or {}), "before_header": each.guest.name, "after_header": each.guest.name}


def _warnings(attended: Iterable[Attended]) -> list[str]:
    found = [f"{each.guest.name}: {warning}" for each in attended for warning in each.outcome.warnings]
    return _capped(found, "warnings of this kind; each guest's entry in guests has its own")


def _capped(found: list[str], what: str) -> list[str]:
    if len(found) <= _MOST_SENTENCES:
        return found
    return [*found[:_MOST_SENTENCES], f"and {len(found) - _MOST_SENTENCES} more {what}"]


def _fail(module: AnsibleModule, error: QgaError, **result: Any) -> None:
    module.fail_json(msg=sentence(error), error=error.as_dict(), **result)

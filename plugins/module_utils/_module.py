# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules' common part: the options that name a guest, and the form of results. Only this file uses Ansible."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from ._errors import sentence
from ._event_loop import tasks
from ._event_loop.tasks import Deadline
from ._fleet.results import GuestResult, Work, count, failure, verdict
from ._fleet.runner import RunOptions, run_all, with_agent
from ._protocol.errors import QgaError
from ._protocol.limits import Limits
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


def run(
    module: AnsibleModule,
    prepare: Callable[[Mapping[str, Any]], Work],
    statuses: Sequence[str],
    limits: Limits,
    summarize: Callable[[Sequence[GuestResult]], Mapping[str, Any]] = lambda _results: {},
    touches_clock: bool = False,
) -> None:
    """Do one thing to the guests that the module's options name, and end the module.

    ``prepare`` checks the module's own options before a guest is touched, and returns the work. ``statuses`` are those
    that its results may have, ``limits`` are on each message of a guest, and ``summarize`` adds to the summary of many
    guests.
    """
    params = module.params
    started_ns = time.monotonic_ns()
    deadline = Deadline(math.inf if params["deadline"] is None else params["deadline"])
    warnings: tuple[str, ...] = ()
    results: Sequence[GuestResult]
    try:
        check_numbers(params)
        is_fleet = names_many(params)
        work = prepare(params)
        options = RunOptions(params["timeout"], params["wait_timeout"], touches_clock)
        if is_fleet:
            from ._fleet.finding import fleet_of  # one guest needs none of it

            with fleet_of(params, limits) as fleet:
                warnings = fleet.warnings
                results = run_all(fleet.guests, work, options, params["concurrency"], deadline)
        else:
            results = (_run_one(params, limits, work, options),)
    except QgaError as error:
        _fail(module, error, changed=False)
        return
    for warning in (*warnings, *_warnings(results)):
        module.warn(warning)
    result = _result(results)
    problem: QgaError | None
    if is_fleet:
        result["summary"] = {
            **count(results, statuses),
            **summarize(results),
            "duration_ns": time.monotonic_ns() - started_ns,
        }
        if module._diff:
            result["diff"] = _differences(results)
        problem = verdict(results, params["fail_on"])
    else:
        if results[0].diff is not None:
            result["diff"] = results[0].diff
        problem = results[0].error
    if problem is not None:
        _fail(module, problem, **result)
        return
    messages = [(each, each.message) for each in results if each.message is not None]
    if messages:
        result["msg"] = "; ".join(_sentences(messages, "guests"))
    module.exit_json(**result)


def _warnings(results: Sequence[GuestResult]) -> list[str]:
    warnings = [(each, warning) for each in results for warning in each.warnings]
    return _sentences(warnings, "warnings of this kind; each guest's entry in guests has its own")


def _differences(results: Sequence[GuestResult]) -> list[dict[str, Any]]:
    return [
        {**each.diff, "before_header": each.name, "after_header": each.name}
        for each in results
        if each.diff is not None
    ]


def _run_one(params: Mapping[str, Any], limits: Limits, work: Work, options: RunOptions) -> GuestResult:
    """
    :raises InvalidOptionError: the guest's name cannot be one
    """
    target = target_of(params, limits)
    try:
        result = tasks.run(with_agent(target.open, work, options))
    except Exception as error:  # pylint: disable=broad-exception-caught  # what a guest sent may have led to it
        result = failure(error)
    return result.of(target.name, None)


def _result(results: Sequence[GuestResult]) -> dict[str, Any]:
    guests = [each.as_dict() for each in results]
    result: dict[str, Any] = {"changed": any(each.changed for each in results), "guests": guests}
    if len(guests) == 1:
        result["guest"] = guests[0]
    return result


def _sentences(found: Sequence[tuple[GuestResult, str]], what: str) -> list[str]:
    sentences = [f"{result.name}: {text}" for result, text in found[:_MOST_SENTENCES]]
    more = len(found) - len(sentences)
    return [*sentences, f"and {more} more {what}"] if more else sentences


def _fail(module: AnsibleModule, error: QgaError, **result: Any) -> None:
    module.fail_json(msg=sentence(error), error=error.as_dict(), **result)

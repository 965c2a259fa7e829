# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The common part of the modules: options that select guests, and the form of results. Only this file uses Ansible."""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from ._agent import GuestAgent
from ._clock.figures import with_twins
from ._clock.reference import host_clock
from ._errors import sentence
from ._event_loop import tasks
from ._event_loop.tasks import Deadline
from ._fleet.results import GuestResult, Work, count, failure, in_words, verdict
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

# A few are enough if a thousand guests have the same problem; each entry has its own.
_MOST_WARNINGS = 10


def run(
    module: AnsibleModule,
    prepare: Callable[[Mapping[str, Any]], Work],
    statuses: Sequence[str],
    limits: Limits,
    summarize: Callable[[Sequence[GuestResult]], Mapping[str, Any]] = lambda _results: {},
    touches_clock: bool = False,
) -> None:
    """Do the same work on the guests that the module's options select, and end the module.

    ``prepare`` checks the module's own options before a guest is touched. ``statuses`` are those of its work's results,
    ``limits`` apply to each message of a guest, and ``summarize`` adds to the summary of many guests.
    """
    params = module.params
    facts = {} if params.get("time") is not None else {"host_clock": host_clock().as_dict()}
    started_ns = time.monotonic_ns()
    deadline = Deadline(math.inf if params["deadline"] is None else params["deadline"])
    try:
        check_numbers(params)
        is_fleet = names_many(params)
        work = prepare(params)
        options = RunOptions(params["timeout"], params["wait_timeout"], touches_clock)
        if not is_fleet:
            _end_with_one(module, _run_one(params, limits, work, options), facts)
            return
        from ._fleet.finding import fleet_of  # not needed for one guest

        with fleet_of(params, limits) as fleet:
            results = run_all(fleet.guests, work, options, params["concurrency"], deadline)
    except QgaError as error:
        module.fail_json(msg=sentence(error), error=error.as_dict(), changed=False, **facts)
        return
    for warning in fleet.warnings:
        module.warn(warning)
    duration_ns = time.monotonic_ns() - started_ns
    counts = count(results, statuses)
    summary = with_twins({**counts, **summarize(results), "duration_ns": duration_ns})
    message = in_words(counts, summary.get("beyond_tolerance", 0))
    _end_with_many(module, results, {**facts, "summary": summary}, message)


def _end_with_one(module: AnsibleModule, result: GuestResult, facts: Mapping[str, Any]) -> None:
    _warn(module, [result])
    returned = {**facts, "changed": result.changed, "guest": result.as_dict()}
    if result.diff is not None:
        returned["diff"] = result.diff
    if result.error is not None:
        module.fail_json(msg=sentence(result.error), **returned)
        return
    if result.sentence is not None:
        returned["msg"] = f"{result.title} {result.sentence}"
    module.exit_json(**returned)


def _end_with_many(
    module: AnsibleModule, results: Sequence[GuestResult], facts: Mapping[str, Any], message: str
) -> None:
    _warn(module, results)
    returned = {
        **facts,
        "changed": any(each.changed for each in results),
        "guests": [each.as_dict() for each in results],
    }
    if module._diff:
        returned["diff"] = _differences(results)
    error = verdict(results, module.params["fail_on"])
    if error is not None:
        module.fail_json(msg=sentence(error), error=error.as_dict(), **returned)
        return
    module.exit_json(msg=message, **returned)


def _warn(module: AnsibleModule, results: Sequence[GuestResult]) -> None:
    """Give the module the warnings of the guests; of many, the first few."""
    warnings = [f"{each.title}: {warning}" for each in results for warning in each.warnings]
    for warning in warnings[:_MOST_WARNINGS]:
        module.warn(warning)
    more = len(warnings) - _MOST_WARNINGS
    if more > 0:
        module.warn(f"and {more} more warnings; see warnings in each guest's entry")


def _differences(results: Sequence[GuestResult]) -> list[dict[str, Any]]:
    return [
        {**each.diff, "before_header": each.title, "after_header": each.title}
        for each in results
        if each.diff is not None
    ]


def _run_one(params: Mapping[str, Any], limits: Limits, work: Work, options: RunOptions) -> GuestResult:
    """
    :raises InvalidOptionError: the option's value cannot be a target
    """
    target = target_of(params, limits)
    names = [target.name]

    async def named_work(agent: GuestAgent) -> GuestResult:
        try:
            return await work(agent)
        finally:
            names.append(agent.guest_name or target.name)  # a domain may be addressed by its UUID

    try:
        result = tasks.run(with_agent(target.open, named_work, options))
    except Exception as error:  # pylint: disable=broad-exception-caught  # a guest's data may have caused it
        result = failure(error)
    return result.of(names[-1], None, _vm_name(params["socket"]))


def _vm_name(socket: str | None) -> str | None:
    if socket is None:
        return None
    from ._fleet.vm_names import node_name

    return node_name(socket)

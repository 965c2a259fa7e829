# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that collect the results of a run on many hypervisors, report them, and make guests' texts fit to be kept."""

from __future__ import annotations

import functools
import json
import math
import time
from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.qemu.guest_agent.plugins.module_utils import _untrusted as untrusted
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import SECOND_NS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.results import collected, completed
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import facts_summary, summary
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import inert

_LONGEST_TOLERANCE = 366 * 86400.0  # seconds; the module's own limit


def fleet_report_html(
    hypervisors: object,
    title: Any = "Clocks of the fleet",
    play: Any = "",
    tolerance: object = None,
    check_mode: object = False,
    made_at: Any = None,
) -> str:
    for name, value in (("title", title), ("play", play), ("made_at", "" if made_at is None else made_at)):
        if not isinstance(value, str):
            raise TypeError(f"{name} is a text, not of type {type(value).__name__}")
    return render(
        hypervisors,
        title=title,
        play=play,
        tolerance_ns=None if tolerance is None else _tolerance_ns(tolerance),
        check_mode=_boolean("check_mode", check_mode),
        made_at=made_at or time.time_ns(),
    )


def fleet_report_text(hypervisors: object, facts: object = False) -> list[str]:
    return (facts_summary if _boolean("facts", facts) else summary)(hypervisors)


def fleet_results(registered: Any, hosts: Any, batches: Any = ()) -> list[Any]:
    if isinstance(hosts, str):
        return [collected(hosts, registered, batches)]
    return completed(registered, hosts)


def guest_facts_json(guests: object, hypervisor: object) -> str:
    if not isinstance(hypervisor, str):
        raise TypeError(f"hypervisor is a text, not of type {type(hypervisor).__name__}")
    if not isinstance(guests, (list, tuple)) or not all(isinstance(guest, Mapping) for guest in guests):
        raise TypeError(f"the guests of a hypervisor are a list of dicts, not of type {type(guests).__name__}")
    # In order, so that the difference between two files is what has changed.
    in_order = sorted(guests, key=lambda guest: str(guest.get("name", "")))
    return json.dumps(inert({"hypervisor": hypervisor, "guests": in_order}), indent=4, sort_keys=True) + "\n"


def guest_text(text: object, length: object = untrusted.EXCERPT) -> str:
    if not isinstance(text, str):
        raise TypeError(f"expects a text, not one of type {type(text).__name__}")
    if not isinstance(length, int) or length < 0:
        raise TypeError(f"length expects a number of characters, not {length!r}")
    # Ansible has types of its own below str; the unbound method gives a plain one, whatever they override.
    return untrusted.visible(str.__str__(text), length)


def _tolerance_ns(value: Any) -> int:
    try:
        # From the command line, a number comes as a text.
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds <= _LONGEST_TOLERANCE:
        raise TypeError(f"tolerance is a number of seconds between 0 and {_LONGEST_TOLERANCE:.0f}")
    return round(seconds * SECOND_NS)


def _boolean(option: str, value: Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError as error:
        raise TypeError(f"{option} is a boolean") from error


def _named(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter, whose input of a wrong type is an error of Ansible's with the filter's name."""

    @functools.wraps(make)
    def made(*arguments: Any, **options: Any) -> Any:
        try:
            return make(*arguments, **options)
        except TypeError as error:
            raise AnsibleFilterError(f"{make.__name__}: {error}") from error.__cause__ or error  # Ansible shows causes

    return made


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        made = (fleet_report_html, fleet_report_text, fleet_results, guest_facts_json, guest_text)
        return {each.__name__: _named(each) for each in made}

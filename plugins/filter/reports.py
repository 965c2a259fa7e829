# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that collect the results of a run on many hypervisors, report them, and make guests' texts fit to be kept."""

from __future__ import annotations

import json
import math
import time
from typing import Any, Callable, Mapping, TypeVar

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.qemu.guest_agent.plugins.module_utils import _untrusted as untrusted
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import SECOND_NS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.results import collected, completed
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import facts_summary, summary
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import inert

_LONGEST_TOLERANCE = 366 * 86400.0  # seconds; the module's own limit


Made = TypeVar("Made")


def _made(name: str, make: Callable[..., Made], *arguments: Any, **options: Any) -> Made:
    """Return what the filter of that name makes.

    :raises AnsibleFilterError: its input has a wrong type
    """
    try:
        return make(*arguments, **options)
    except TypeError as error:
        raise AnsibleFilterError(f"{name}: {error}") from error


def fleet_report_html(
    hypervisors: object,
    title: object = "Clocks of the fleet",
    play: object = "",
    tolerance: object = None,
    check_mode: object = False,
    made_at: object = None,
) -> str:
    for name, value in (("title", title), ("play", play), ("made_at", "" if made_at is None else made_at)):
        if not isinstance(value, str):
            raise AnsibleFilterError(f"fleet_report_html: {name} is a text, not of type {type(value).__name__}")
    return _made(
        "fleet_report_html",
        render,
        hypervisors,
        title=title,
        play=play,
        tolerance_ns=None if tolerance is None else _tolerance_ns(tolerance),
        check_mode=_boolean("fleet_report_html", "check_mode", check_mode),
        made_at=made_at or time.time_ns(),
    )


def fleet_report_text(hypervisors: object, facts: object = False) -> list[str]:
    make = facts_summary if _boolean("fleet_report_text", "facts", facts) else summary
    return _made("fleet_report_text", make, hypervisors)


def fleet_results(registered: Any, hosts: Any, batches: Any = ()) -> list[Any]:
    if isinstance(hosts, str):
        return [_made("fleet_results", collected, hosts, registered, batches)]
    return _made("fleet_results", completed, registered, hosts)


def guest_facts_json(guests: object, hypervisor: object) -> str:
    if not isinstance(hypervisor, str):
        raise AnsibleFilterError(f"guest_facts_json: hypervisor is a text, not of type {type(hypervisor).__name__}")
    if not isinstance(guests, (list, tuple)) or not all(isinstance(guest, Mapping) for guest in guests):
        raise AnsibleFilterError(
            f"guest_facts_json: the guests of a hypervisor are a list of dicts, not of type {type(guests).__name__}"
        )
    # In order, so that the difference between two files is what has changed.
    in_order = sorted(guests, key=lambda guest: str(guest.get("name", "")))
    facts = _made("guest_facts_json", inert, {"hypervisor": hypervisor, "guests": in_order})
    return json.dumps(facts, indent=4, sort_keys=True) + "\n"


def guest_text(text: object, length: object = untrusted.EXCERPT) -> str:
    if not isinstance(text, str):
        raise AnsibleFilterError(f"guest_text: expects a text, not one of type {type(text).__name__}")
    if not isinstance(length, int) or length < 0:
        raise AnsibleFilterError(f"guest_text: length expects a number of characters, not {length!r}")
    # Ansible has types of its own below str; the unbound method gives a plain one, whatever they override.
    return untrusted.visible(str.__str__(text), length)


def _tolerance_ns(value: Any) -> int:
    try:
        # From the command line, a number comes as a text.
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds <= _LONGEST_TOLERANCE:
        raise AnsibleFilterError(
            f"fleet_report_html: tolerance is a number of seconds between 0 and {_LONGEST_TOLERANCE:.0f}"
        )
    return round(seconds * SECOND_NS)


def _boolean(name: str, option: str, value: Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError as error:
        raise AnsibleFilterError(f"{name}: {option} is a boolean") from error


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        made = (fleet_report_html, fleet_report_text, fleet_results, guest_facts_json, guest_text)
        return {each.__name__: each for each in made}

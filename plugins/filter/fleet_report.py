# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that collect the results of a run on many hypervisors, and report them as a page and as lines."""

from __future__ import annotations

import math
import time
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._filter_errors import made
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import SECOND_NS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.results import collected, completed
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import facts_summary, summary

_LONGEST_TOLERANCE = 366 * 86400.0  # seconds; the module's own limit


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
    return made(
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
    return made("fleet_report_text", make, hypervisors)


def fleet_results(registered: Any, hosts: Any, batches: Any = ()) -> list[Any]:
    if isinstance(hosts, str):
        return [made("fleet_results", collected, hosts, registered, batches)]
    return made("fleet_results", completed, registered, hosts)


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
        return {
            "fleet_report_html": fleet_report_html,
            "fleet_report_text": fleet_report_text,
            "fleet_results": fleet_results,
        }

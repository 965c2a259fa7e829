# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that collect and report the results of a run on many hypervisors, and make text from guests safe to keep."""

from __future__ import annotations

import functools
import json
import math
import platform
import time
from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.release import __version__ as ansible_core
from ansible_collections.qemu.guest_agent.plugins.module_utils import _untrusted as untrusted
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.timestamps import parse_instant
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.collection import version
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.data import document, totals
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.format import SECOND_NS, printable
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import (
    FACTS_STATUSES,
    STATUSES,
    Fleet,
    Header,
    Settings,
    read_fleet,
)
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.page import render
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.results import collected, completed
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import facts_summary, summary
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import inert

_COLLECTION = "qemu.guest_agent"
_LONGEST_TOLERANCE = 366 * 86400.0  # seconds; the module's own limit
_LONGEST_TEXT = 160  # characters


def fleet_report_html(
    hypervisors: object,
    title: Any = "Clocks of the fleet",
    play: Any = "",
    tolerance: object = None,
    check_mode: object = False,
    made_at: Any = None,
    started_at: Any = None,
    inventory: Any = (),
) -> str:
    settings = _settings(tolerance, check_mode)
    header = _header(title, play, made_at, started_at, inventory)
    return render(Fleet.of(read_fleet(hypervisors), settings), header)


def fleet_report_json(
    hypervisors: object,
    title: Any = "Clocks of the fleet",
    play: Any = "",
    tolerance: object = None,
    check_mode: object = False,
    made_at: Any = None,
    started_at: Any = None,
    inventory: Any = (),
) -> str:
    settings = _settings(tolerance, check_mode)
    header = _header(title, play, made_at, started_at, inventory)
    return _json(document(Fleet.of(read_fleet(hypervisors), settings), header), indent=1)


def fleet_report_text(hypervisors: object, facts: object = False) -> list[str]:
    return (facts_summary if _boolean("facts", facts) else summary)(hypervisors)


def fleet_summary(hypervisors: object, facts: object = False) -> dict[str, int]:
    statuses = FACTS_STATUSES if _boolean("facts", facts) else STATUSES
    return totals(Fleet.of(read_fleet(hypervisors, statuses), _settings(None, False)), statuses)


def fleet_results(registered: Any, hosts: Any, batches: Any = ()) -> list[Any]:
    if isinstance(hosts, str):
        return [collected(hosts, registered, batches)]
    return completed(registered, hosts)


def guest_facts_json(guests: object, hypervisor: object) -> str:
    if not isinstance(hypervisor, str):
        raise TypeError(f"hypervisor must be a string, not of type {type(hypervisor).__name__}")
    if not isinstance(guests, (list, tuple)) or not all(isinstance(guest, Mapping) for guest in guests):
        raise TypeError(f"the guests of a hypervisor must be a list of dicts, not of type {type(guests).__name__}")
    # Sorted, so that a diff of two files shows what has changed.
    in_order = sorted(guests, key=lambda guest: str(guest.get("name", "")))
    return _json({"hypervisor": hypervisor, "guests": in_order}, indent=4, sort_keys=True)


def guest_text(text: object, length: object = untrusted.EXCERPT) -> str:
    if not isinstance(text, str):
        raise TypeError(f"the input must be a string, not of type {type(text).__name__}")
    if not isinstance(length, int) or length < 0:
        raise TypeError(f"length must be a number of characters, not {length!r}")
    # Ansible has types of its own below str; the unbound method returns a plain one, whatever they override.
    return untrusted.visible(str.__str__(text), length)


def _json(content: object, **options: Any) -> str:
    return json.dumps(inert(content), **options) + "\n"


def _settings(tolerance: object, check_mode: object) -> Settings:
    return Settings(None if tolerance is None else _tolerance_ns(tolerance), _boolean("check_mode", check_mode))


def _header(title: Any, play: Any, made_at: Any, started_at: Any, inventory: Any) -> Header:
    for name, value in (("title", title), ("play", play)):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be a string, not of type {type(value).__name__}")
    sources = [inventory] if isinstance(inventory, str) else inventory
    if not isinstance(sources, (list, tuple)) or not all(isinstance(source, str) for source in sources):
        raise TypeError("inventory must be a list of strings")
    return Header(
        title=printable(title, _LONGEST_TEXT),
        play=printable(play, _LONGEST_TEXT) if play else "",
        made_ns=time.time_ns() if made_at is None else _time_ns("made_at", made_at),
        started_ns=None if started_at is None else _time_ns("started_at", started_at),
        # A plain text, whatever type of Ansible's own it is.
        inventory=tuple(str.__str__(source) for source in sources if source),
        collection=_COLLECTION,
        version=version(),
        core=ansible_core,
        controller=printable(platform.node(), _LONGEST_TEXT),
    )


def _time_ns(option: str, value: Any) -> int:
    try:
        return parse_instant(str.__str__(value))
    except (TypeError, InvalidOptionError):
        raise TypeError(f"{option} must be a time with a zone, such as 2026-11-23T04:05:06Z") from None


def _tolerance_ns(value: Any) -> int:
    try:
        # A number from the command line is a string.
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0.0 <= seconds <= _LONGEST_TOLERANCE:
        raise TypeError(f"tolerance must be a number of seconds from 0 to {_LONGEST_TOLERANCE:.0f}")
    return round(seconds * SECOND_NS)


def _boolean(option: str, value: Any) -> bool:
    try:
        return bool(boolean(value))
    except TypeError as error:
        raise TypeError(f"{option} must be a boolean") from error


def _named(make: Callable[..., Any]) -> Callable[..., Any]:
    """Return the filter, with its name in the error that Ansible reports for input of a wrong type."""

    @functools.wraps(make)
    def made(*arguments: Any, **options: Any) -> Any:
        try:
            return make(*arguments, **options)
        except TypeError as error:
            raise AnsibleFilterError(f"{make.__name__}: {error}") from error.__cause__ or error  # Ansible shows causes

    return made


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        filters = (
            *(fleet_report_html, fleet_report_json, fleet_report_text, fleet_results, fleet_summary),
            *(guest_facts_json, guest_text),
        )
        return {each.__name__: _named(each) for each in filters}

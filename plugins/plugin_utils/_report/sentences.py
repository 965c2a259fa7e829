# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sentences that the page and the lines for the terminal share."""

from __future__ import annotations

from typing import Iterable, Sequence

from .format import counted
from .model import Hypervisor, ReportedGuest, all_guests, largest, names_not_found

# The most names in a sentence.
_NAMED_HOSTS = 3
_NAMED_GUESTS = 10


def beyond_sentence(hypervisors: Sequence[Hypervisor]) -> tuple[str, str]:
    """Return how many guests were left beyond tolerance and which is the worst, and its name; empty if none."""
    beyond = [(guest, guest.last) for guest in all_guests(hypervisors) if guest.is_beyond]
    if not beyond:
        return "", ""
    worst = largest(beyond)
    guest = worst[0] if worst else beyond[0][0]
    where = f" on {guest.host}" if len(hypervisors) > 1 else ""
    text = f"{guest.label}{where}, {worst[1].direction}" if worst else f"{guest.label}{where}"
    if len(beyond) == 1:
        return f"1 guest is beyond tolerance: {text}.", guest.label
    return f"{len(beyond):,} guests are beyond tolerance, the worst: {text}.", guest.label


def unproven_sentence(guests: Iterable[ReportedGuest]) -> str:
    """Return how many of the guests that failed may have right clocks; empty if none."""
    unproven = sum(guest.unproven for guest in guests if guest.status == "failed")
    return f"{counted(unproven, 'clock')} {'is' if unproven == 1 else 'are'} not proven right." if unproven else ""


def not_found_sentence(hypervisors: Sequence[Hypervisor]) -> str:
    """Return which names are on no hypervisor; empty if none."""
    names = names_not_found(hypervisors)
    if not names:
        return ""
    where = "any hypervisor that answered" if any(each.problem for each in hypervisors) else "any hypervisor"
    more = f", and {len(names) - _NAMED_GUESTS:,} more" if len(names) > _NAMED_GUESTS else ""
    return f"Not found on {where}: {', '.join(names[:_NAMED_GUESTS])}{more}."


def unsynchronized_sentence(hypervisors: Iterable[Hypervisor]) -> str:
    """Return which hypervisors have clocks that are not synchronized; empty if none."""
    hosts = [hypervisor.host for hypervisor in hypervisors if hypervisor.is_unsynchronized]
    if not hosts:
        return ""
    if len(hosts) == 1:
        return f"The clock of hypervisor {hosts[0]} is not synchronized."
    named = ", ".join(hosts[:_NAMED_HOSTS]) + (", …" if len(hosts) > _NAMED_HOSTS else "")
    return f"The clocks of {len(hosts):,} hypervisors are not synchronized ({named})."

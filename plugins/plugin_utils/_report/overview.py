# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is seen first: the outcome in a sentence, the figures in tiles, and the picture."""

from __future__ import annotations

from typing import Sequence

from .chart.offsets import chart, legend
from .format import UNKNOWN, counted, signed
from .markup import Html, element, join, text
from .model import STATUSES, Guest, Hypervisor, Settings, Tally, shown

# -------------------------------------------------------------------------------------------------------------- verdict


def verdict(fleet: Sequence[Hypervisor], total: Tally, guests: Sequence[Guest], settings: Settings) -> Html:
    """The outcome, with links to what explains it."""
    trouble = list(_trouble(fleet, total, guests))
    if trouble:
        return _told("bad", join(Html(f"{sentence} ") for sentence in trouble))
    if not total.total:
        return _told("idle", text("There was no guest to work on."))
    skipped, wrong = total.by_status["skipped"], total.by_status["corrected"]
    if skipped:
        sentence = f"No guest failed, but {_of(skipped, total.total)} {_were(skipped)} skipped."
        return _told("fair", element("a", text(sentence), href="#skipped"))
    if settings.check_mode and wrong:
        return _told("fair", text(f"{_of(wrong, total.total)} would be corrected.".capitalize()))
    beyond = sum(guest.within is not True and not guest.is_slewing for guest in guests)
    if beyond:
        sentence = f"No guest failed, but {_of(beyond, total.total)} {_are(beyond)} not known to be within tolerance."
        return _told("fair", text(sentence))
    gliding = total.by_status["slewing"]
    if gliding:
        sentence = f"No guest failed, and {_of(gliding, total.total)} {_are(gliding)} being slewed into tolerance."
        return _told("fair", text(sentence))
    everyone = "The guest is" if total.total == 1 else f"All {total.total:,} guests are"
    return _told("good", text(f"{everyone} within tolerance."))


def _trouble(fleet: Sequence[Hypervisor], total: Tally, guests: Sequence[Guest]) -> Sequence[Html]:
    lost, failed = _lost(fleet), total.by_status["failed"]
    sentences = []
    if lost:
        sentence = f"{lost:,} of {counted(len(fleet), 'hypervisor')} could not be worked on."
        sentences.append(element("a", text(sentence), href="#hypervisors-failed"))
    if failed:
        sentences.append(element("a", text(f"{_of(failed, total.total)} failed."), href="#failed"))
    unproven = unproven_sentence(guests)
    if unproven:
        sentences.append(element("a", text(unproven), href="#guests"))
    return sentences


def unproven_sentence(guests: Sequence[Guest]) -> str:
    """How many of the guests that failed may have right clocks; empty if none."""
    unproven = sum(guest.unproven for guest in guests if guest.status == "failed")
    return f"{counted(unproven, 'clock')} {_are(unproven)} not proven right." if unproven else ""


def _told(tone: str, sentence: Html) -> Html:
    return element("p", sentence, class_=f"verdict {tone}")


def _of(part: int, whole: int) -> str:
    return f"{part:,} of {counted(whole, 'guest')}"


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _lost(fleet: Sequence[Hypervisor]) -> int:
    return sum(hypervisor.problem is not None for hypervisor in fleet)


# ---------------------------------------------------------------------------------------------------------------- tiles


def tiles(fleet: Sequence[Hypervisor], total: Tally, guests: Sequence[Guest], settings: Settings) -> Html:
    unmeasured = sum(not guest.measured for guest in guests)
    return element(
        "ul",
        _tile("Guests", f"{total.total:,}", _but(unmeasured, total.total, "measured")),
        *(_status(status, total, settings) for status in shown(STATUSES, total)),
        _largest("Largest before", total.largest_before, total.largest_before_ns),
        _largest("Largest after", total.largest_after, total.largest_after_ns),
        _tile("Hypervisors", f"{len(fleet):,}", _but(_lost(fleet), len(fleet), "worked on")),
        class_="tiles more" if total.by_status["slewing"] else "tiles",
    )


def _but(missing: int, whole: int, done: str) -> str:
    if missing:
        return f"{missing:,} not {done}"
    return f"all {done}" if whole else "none"


def _tile(name: str, figure: str, note: str, kind: str | None = None) -> Html:
    label, number, remark = element("span", text(name)), element("b", text(figure)), element("span", text(note))
    return element("li", label, number, remark, class_=kind, title=note)


def _status(status: str, total: Tally, settings: Settings) -> Html:
    number = total.by_status[status]
    kind = status if number else f"{status} nil"
    return _tile(settings.label(status).capitalize(), f"{number:,}", share(number, total.total), kind)


def _largest(name: str, guest: Guest | None, ns: int | None) -> Html:
    if guest is None or ns is None:
        return _tile(name, UNKNOWN, "not measured", "nil long")
    return _tile(name, signed(ns), f"{guest.name} on {guest.host}", "long")


def share(part: int, whole: int) -> str:
    """In percent; never all of a fleet from which one is missing, and never nothing of what is there."""
    if not part:
        return "none"
    if part == whole:
        return "all"
    return f"{min(99.9, max(0.1, 100 * part / whole)):.3g} %"


# -------------------------------------------------------------------------------------------------------------- picture


def offsets(guests: Sequence[Guest], settings: Settings) -> Html:
    shown = [guest for guest in guests if guest.measured]
    note = "Guest clock minus host clock, on a logarithmic scale."
    if settings.check_mode:
        note += " No clock was stepped."
    missing = len(guests) - len(shown)
    if missing:
        note += f" {counted(missing, 'guest')} without a measurement {_are(missing)} not shown."
    return element(
        "section",
        element("h2", text("Offsets")),
        element("p", text(note)),
        legend(shown, settings),
        chart(shown, settings),
    )

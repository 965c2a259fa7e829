# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of each guest of a run, and the verdict on the whole run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, Awaitable, Callable, Iterable, Mapping, Sequence

from .._agent import GuestAgent
from .._errors import (
    GuestsFailedError,
    NotConfiguredError,
    NotConnectedError,
    NotFoundError,
    NotRunningError,
    OptedOutError,
    detached,
)
from .._protocol.errors import QgaError
from .._untrusted import visible

# A guest that was matched by a pattern is skipped with one of these errors.
_UNUSABLE = (NotRunningError, NotConfiguredError, NotConnectedError, OptedOutError, NotFoundError)

_NAMED_FAILURES = 5


@dataclass(frozen=True)
class GuestResult:
    """The result of one guest: its entry in the task's results, and what goes into the task's other results.

    The work on a guest sets all but ``name``, ``uuid`` and ``vm_name``, which the runner sets. ``vm_name`` is a name
    that the hypervisor has for a guest that was not addressed by it. ``status`` is one word: the work's
    own, or "skipped" or "failed". ``sentence``: a sentence for a task that succeeds, whose subject is the guest.
    """

    entry: Mapping[str, Any]
    status: str = "done"
    changed: bool = False
    diff: Mapping[str, str] | None = None
    sentence: str | None = None
    warnings: tuple[str, ...] = ()
    error: QgaError | None = None
    name: str = ""
    uuid: str | None = None
    vm_name: str | None = None

    def __post_init__(self) -> None:
        if self.error is not None:
            detached(self.error)  # up to thousands are kept

    @property
    def title(self) -> str:
        """The guest's name for people."""
        return self.vm_name or self.name

    def of(self, name: str, uuid: str | None, vm_name: str | None = None) -> GuestResult:
        """Return the result with the guest's names; with an error, its status is "failed"."""
        status = self.status if self.error is None else "failed"
        return replace(self, name=name, uuid=uuid, vm_name=vm_name, status=status)

    def as_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "status": self.status, **self.entry}
        if self.uuid is not None:
            entry["uuid"] = self.uuid
        if self.vm_name is not None:
            entry.update(vm_name=self.vm_name, vm_name_from="node")
        if self.warnings:
            entry["warnings"] = list(self.warnings)
        return entry


Work = Callable[[GuestAgent], Awaitable[GuestResult]]


def failure(error: Exception, is_optional: bool = False) -> GuestResult:
    """Return the result of a guest with that error. ``is_optional``: it is skipped if it cannot be used."""
    if not isinstance(error, QgaError):
        error = internal_error(error)
    if is_optional and isinstance(error, _UNUSABLE):
        return GuestResult({"reason": error.as_dict()}, "skipped")
    return GuestResult({"error": error.as_dict()}, error=error)


def internal_error(error: Exception) -> QgaError:
    """Convert an unforeseen exception to an error: a guest must not be able to end the module with one."""
    return QgaError(
        f"internal error: {type(error).__name__}: {visible(str(error))}",
        "Please report it, with the task and the version of the agent.",
    )


def count(results: Iterable[GuestResult], statuses: Sequence[str]) -> dict[str, int]:
    """Return the number of guests in total and by status."""
    found = Counter(each.status for each in results)
    return {"total": sum(found.values()), **{status: found[status] for status in (*statuses, "skipped", "failed")}}


def in_words(counts: Mapping[str, int], beyond_tolerance: int = 0) -> str:
    """Return what :func:`count` returned as ``12 guests: 9 corrected, 2 unchanged, 1 skipped``.

    ``beyond_tolerance`` guests did not fail, and their clocks are wrong all the same.
    """
    total = counts["total"]
    parts = [f"{number} {name.replace('_', ' ')}" for name, number in counts.items() if number and name != "total"]
    if not parts:
        return "no guests"
    beyond = f"; {beyond_tolerance} left beyond tolerance" if beyond_tolerance else ""
    return f"{total} guest{'' if total == 1 else 's'}: {', '.join(parts)}{beyond}"


def verdict(results: Sequence[GuestResult], fail_on: str) -> GuestsFailedError | None:
    """Return the error of the whole run, by ``fail_on``: "any" guest failed, "all" that were not skipped, or "none"."""
    bad = [(each.title, each.error.code) for each in results if each.error is not None]
    tried = [each for each in results if each.status != "skipped"]
    if not bad or fail_on == "none" or (fail_on == "all" and len(bad) < len(tried)):
        return None
    return GuestsFailedError(f"{len(bad)} of {len(results)} guests failed: {listed(bad)}")


def listed(failed: Sequence[tuple[str, str]]) -> str:
    """Return the first few of the guests that failed, given by name and code, as part of a sentence."""
    named = ", ".join(f"{name} ({code})" for name, code in failed[:_NAMED_FAILURES])
    return named if len(failed) <= _NAMED_FAILURES else f"{named} and {len(failed) - _NAMED_FAILURES} more"

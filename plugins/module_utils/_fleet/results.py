# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of each guest of a run, and the verdict on all of them."""

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

# A guest that a pattern matched, and that has one of these errors, is skipped.
_UNUSABLE = (NotRunningError, NotConfiguredError, NotConnectedError, OptedOutError, NotFoundError)

_NAMED_FAILURES = 5


@dataclass(frozen=True)
class GuestResult:
    """The result of one guest: what its entry in the task's results has, and what goes beside it.

    The work on a guest sets all but ``name`` and ``uuid``, which are the runner's. ``status`` is one word: the work's
    own, or "skipped" or "failed". ``message`` is a sentence for a task that succeeds.
    """

    entry: Mapping[str, Any]
    status: str = "done"
    changed: bool = False
    diff: Mapping[str, str] | None = None
    message: str | None = None
    warnings: tuple[str, ...] = ()
    error: QgaError | None = None
    name: str = ""
    uuid: str | None = None

    def __post_init__(self) -> None:
        if self.error is not None:
            detached(self.error)  # a thousand of them are kept

    def of(self, name: str, uuid: str | None) -> GuestResult:
        """The result of the guest of that name; with an error, it has failed."""
        return replace(self, name=name, uuid=uuid, status=self.status if self.error is None else "failed")

    def as_dict(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"name": self.name, "status": self.status, **self.entry}
        if self.uuid is not None:
            entry["uuid"] = self.uuid
        if self.warnings:
            entry["warnings"] = list(self.warnings)
        return entry


Work = Callable[[GuestAgent], Awaitable[GuestResult]]


def failure(error: Exception, is_optional: bool = False) -> GuestResult:
    """The result of a guest with that error: ``is_optional`` guests are skipped if they cannot be used."""
    if not isinstance(error, QgaError):
        error = internal_error(error)
    if is_optional and isinstance(error, _UNUSABLE):
        return GuestResult({"reason": error.as_dict()}, "skipped")
    return GuestResult({"error": error.as_dict()}, error=error)


def internal_error(error: Exception) -> QgaError:
    """For what nobody foresaw: a guest must not be able to end the module by it."""
    return QgaError(
        f"a defect of this collection: {type(error).__name__}: {visible(str(error))}",
        "Please report it, with what the task was and the version of the agent.",
    )


def count(results: Iterable[GuestResult], statuses: Sequence[str]) -> dict[str, int]:
    found = Counter(each.status for each in results)
    return {"total": sum(found.values()), **{status: found[status] for status in (*statuses, "skipped", "failed")}}


def verdict(results: Sequence[GuestResult], fail_on: str) -> GuestsFailedError | None:
    """The error of the whole run. ``fail_on``: "any" guest that failed, "all" that were not skipped, or "none"."""
    bad = [(each.name, each.error.code) for each in results if each.error is not None]
    tried = [each for each in results if each.status != "skipped"]
    if not bad or fail_on == "none" or (fail_on == "all" and len(bad) < len(tried)):
        return None
    return GuestsFailedError(f"{len(bad)} of {len(results)} guests failed: {listed(bad)}")


def listed(failed: Sequence[tuple[str, str]]) -> str:
    """Some of the guests that failed, which are given by name and code, in a sentence."""
    named = ", ".join(f"{name} ({code})" for name, code in failed[:_NAMED_FAILURES])
    return named if len(failed) <= _NAMED_FAILURES else f"{named} and {len(failed) - _NAMED_FAILURES} more"

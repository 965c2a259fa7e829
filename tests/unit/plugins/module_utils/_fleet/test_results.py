"""Results of guests, and the verdict on the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandFailedError,
    NotConfiguredError,
    NotConnectedError,
    NotConvergedError,
    NotFoundError,
    NotRunningError,
    OptedOutError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import (
    GuestResult,
    count,
    failure,
    in_words,
    verdict,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError, RemoteProtocolError

UUID = "1e1a6f0c-55d5-4f73-9a3b-2d1c6bd43a1b"
UNUSABLE = {NotRunningError, NotConfiguredError, NotConnectedError, OptedOutError, NotFoundError}


@pytest.mark.parametrize(
    ("result", "entry"),
    [
        (GuestResult({"figure": 2}, "corrected"), {"status": "corrected", "figure": 2}),
        (
            GuestResult({"figure": 1}, warnings=("coarse", "ahead")),
            {"status": "done", "figure": 1, "warnings": ["coarse", "ahead"]},
        ),
        (
            GuestResult({"figure": 3}, "corrected", error=NotConvergedError("still off")),
            {"status": "failed", "figure": 3},
        ),
    ],
)
def test_the_entry_of_a_result_has_the_guests_name(result: GuestResult, entry: dict[str, Any]) -> None:
    assert result.of("web1", None).as_dict() == {"name": "web1", **entry}
    assert result.of("web1", UUID).as_dict() == {"name": "web1", **entry, "uuid": UUID}


def test_the_name_of_a_virtual_machine_is_its_title() -> None:
    result = GuestResult({"figure": 2}, "corrected").of("/run/qemu-server/100.qga", None, "web1")
    assert result.title == "web1"
    assert result.as_dict() == {
        "name": "/run/qemu-server/100.qga",
        "status": "corrected",
        "figure": 2,
        "vm_name": "web1",
        "vm_name_from": "node",
    }


def test_a_result_keeps_its_error_without_traceback_and_context() -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        raise RemoteProtocolError("nonsense") from ValueError("a long text")
    kept = GuestResult({}, error=raised.value).error
    assert kept is not None
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)


def kinds(kind: type[QgaError] = QgaError) -> list[type[QgaError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_only_an_optional_guest_that_cannot_be_used_is_skipped(kind: type[QgaError]) -> None:
    error = kind("trouble")
    named, matched = (failure(error, is_optional).of("web1", None) for is_optional in (False, True))
    assert named.as_dict() == {"name": "web1", "status": "failed", "error": error.as_dict()}
    if kind in UNUSABLE:
        assert matched.as_dict() == {"name": "web1", "status": "skipped", "reason": error.as_dict()}
        assert matched.error is None
    else:
        assert matched == named


def with_status(status: str, name: str = "web1", kind: type[QgaError] = UnresponsiveError) -> GuestResult:
    result = failure(kind("trouble")) if status == "failed" else GuestResult({}, status)
    return result.of(name, None)


def with_statuses(*statuses: str) -> list[GuestResult]:
    return [with_status(status, f"web{number}") for number, status in enumerate(statuses, 1)]


def test_every_status_is_counted_even_if_it_did_not_occur() -> None:
    found = with_statuses("corrected", "skipped", "failed", "corrected", "unchanged", "skipped", "skipped")
    assert count(found, ("corrected", "unchanged", "other")) == {
        "total": 7,
        "corrected": 2,
        "unchanged": 1,
        "other": 0,
        "skipped": 3,
        "failed": 1,
    }
    assert count([], ("gathered",)) == {"total": 0, "gathered": 0, "skipped": 0, "failed": 0}


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        (("corrected", "skipped", "corrected"), "3 guests: 2 corrected, 1 skipped"),
        (("would_correct",), "1 guest: 1 would correct"),
        ((), "no guests"),
    ],
)
def test_counts_are_put_in_words_without_the_zeros(statuses: Sequence[str], words: str) -> None:
    assert in_words(count(with_statuses(*statuses), ("corrected", "would_correct"))) == words


class TestTheVerdict:
    @pytest.mark.parametrize(
        ("statuses", "fails"),
        [
            ((), set()),
            (("skipped", "skipped"), set()),
            (("done", "skipped"), set()),
            (("done", "skipped", "failed"), {"any"}),
            (("failed",), {"any", "all"}),
            (("failed", "failed", "skipped"), {"any", "all"}),
        ],
    )
    @pytest.mark.parametrize("fail_on", ["any", "all", "none"])
    def test_fail_on_decides_when_the_run_fails(self, fail_on: str, statuses: Sequence[str], fails: set[str]) -> None:
        assert (verdict(with_statuses(*statuses), fail_on) is not None) == (fail_on in fails)

    def test_it_names_the_guests_and_their_errors(self) -> None:
        found = [with_status("failed", "web1"), with_status("done"), with_status("failed", "db1", CommandFailedError)]
        error = verdict(found, "any")
        assert error is not None
        assert error.code == "guests_failed"
        assert error.message == "2 of 3 guests failed: web1 (unresponsive), db1 (command_failed)"
        assert "fail_on" in error.hint

    @pytest.mark.parametrize(("number", "end"), [(5, ""), (6, " and 1 more"), (200, " and 195 more")])
    def test_it_names_at_most_five(self, number: int, end: str) -> None:
        error = verdict(with_statuses(*["failed"] * number), "any")
        assert error is not None
        named = ", ".join(f"web{which} (unresponsive)" for which in range(1, 6))
        assert error.message == f"{number} of {number} guests failed: {named}{end}"

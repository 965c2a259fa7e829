from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.results import collected, completed

NOT_FOUND = {"code": "not_found", "message": "no domain web9", "hint": "Check the name."}
OFF = {"code": "not_running", "message": "web3 is shut off", "hint": "Start it."}
TIMEOUT = {"code": "deadline", "message": "the deadline passed", "hint": ""}


def guest(name: str, status: str = "gathered", **other: Any) -> dict[str, Any]:
    return {"name": name, "status": status, **other}


def listing(*guests: dict[str, Any], **other: Any) -> dict[str, Any]:
    """What a task registers that lists guests."""
    return {"changed": False, "failed": False, "guests": list(guests), **other}


def batch(*guests: dict[str, Any]) -> dict[str, Any]:
    """What a turn of the loop registers."""
    return {"changed": True, "qga_batch": [guest(each["name"]) for each in guests], "guests": list(guests)}


def broken(*names: str, **other: Any) -> dict[str, Any]:
    """What a turn of the loop registers that failed as a whole."""
    return {"failed": True, "qga_batch": [guest(name, uuid=name * 2) for name in names], **other}


def test_guests_are_those_that_were_worked_on_in_order_and_those_that_were_set_aside() -> None:
    done = [guest(f"web{number}", "corrected", offset_before_ns=-number) for number in range(6)]
    off = guest("db1", "skipped", reason=OFF)
    listed = listing(*(guest(each["name"]) for each in done), off)
    assert collected("hv1", listed, [batch(*done[at : at + 2]) for at in (0, 2, 4)]) == {
        "host": "hv1",
        "guests": [off, *done],
        "error": None,
        "summary": {"total": 7, "failed": 0, "skipped": 1},
        "not_here": [],
    }


@pytest.mark.parametrize("why", ["reason", "error"])
def test_guests_that_are_elsewhere_are_none_of_this_hypervisors(why: str) -> None:
    listed = listing(guest("web1"), guest("web9", "failed", **{why: NOT_FOUND}))
    made = collected("hv1", listed, [batch(guest("web1", "unchanged"))])
    assert ([each["name"] for each in made["guests"]], made["not_here"]) == (["web1"], ["web9"])


def test_a_listing_that_failed_is_the_hypervisors_error() -> None:
    error = {"code": "hypervisor_unavailable", "message": "refused", "hint": "Check the uri."}
    listed = {"failed": True, "msg": "Refused [hypervisor_unavailable]. Check the uri.", "error": error}
    made = collected("hv1", listed, [])
    assert (made["guests"], made["error"]) == ([], error)


def test_guests_of_a_batch_that_failed_as_a_whole_share_its_error_and_the_first_stands_for_all() -> None:
    worked_on, why = guest("a", "unchanged"), {"code": "module_failed", "message": "later", "hint": ""}
    batches = [batch(worked_on), broken("b", "c", error=TIMEOUT), broken("d", msg="later")]
    lost = [
        {"name": name, "uuid": name * 2, "status": "failed", "error": error}
        for name, error in (("b", TIMEOUT), ("c", TIMEOUT), ("d", why))
    ]
    assert collected("hv1", listing(*map(guest, "abcd")), batches) == {
        "host": "hv1",
        "guests": [worked_on, *lost],
        "error": TIMEOUT,
        "summary": {"total": 4, "failed": 3, "skipped": 0},
        "not_here": [],
    }


@pytest.mark.parametrize(
    ("registered", "code", "message"),
    [
        ({"unreachable": True, "msg": "Failed to connect"}, "unreachable", "Failed to connect"),
        ({"failed": True, "msg": "Task failed: MODULE FAILURE"}, "module_failed", "MODULE FAILURE"),
        *(
            (registered, "module_failed", "the task gave no result")
            for registered in ({"failed": True}, {"failed": True, "msg": ["a", "b"]}, {"skipped": True})
        ),
        ({"failed": True, "msg": "one\nTrace:\x1b[2J {{ x }}"}, "module_failed", r"one\nTrace:\x1b[2J \x7b{ x }}"),
        ({"failed": True, "msg": "x" * 10**6}, "module_failed", "x" * 1000 + "…"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_ansible_says_of_a_task_is_an_error_that_can_be_shown(
    registered: dict[str, Any], code: str, message: str
) -> None:
    assert collected("hv1", registered, [])["error"] == {"code": code, "message": message, "hint": ""}


def test_what_is_in_a_result_besides_is_left_alone() -> None:
    strange = [guest("web1", "gathered", error="odd"), {"status": None}, {"name": ["a list"], "status": "skipped"}]
    made = collected("hv1", listing(*strange), [])
    assert made["guests"] == strange[1:]


@pytest.mark.parametrize(
    ("listed", "batches"),
    [(None, []), ("text", []), ([], []), (listing(), "text"), (listing(), ["text"]), ({"guests": "text"}, [])],
)
def test_what_was_not_registered_is_refused(listed: Any, batches: Any) -> None:
    with pytest.raises(TypeError, match="registered"):
        collected("hv1", listed, batches)


def seen(host: str, *guests: dict[str, Any], not_here: tuple[str, ...] = (), error: Any = None) -> dict[str, Any]:
    return {"host": host, "guests": list(guests), "error": error, "not_here": list(not_here)}


def test_a_hypervisor_of_which_nothing_is_known_was_stopped() -> None:
    _hv1, *others = completed([seen("hv1", guest("web1"))], ["hv3", "hv1", "hv2"])
    assert [(each["host"], each["error"]["code"], each["guests"]) for each in others] == [
        ("hv2", "stopped", []),
        ("hv3", "stopped", []),
    ]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [seen("hv1", guest("web1")), seen("hv2")],
        # A guest may be on another hypervisor.
        [seen("hv1", guest("web1"), not_here=("web9",)), seen("hv2", {"name": "web9"})],
        [seen("hv1", guest("web1"), not_here=("web9",)), seen("hv2", {"name": "db1", "uuid": "web9"})],
        # Nor is it known that there are none where none answered.
        [seen("hv1", error=TIMEOUT)],
    ],
)
def test_nothing_is_added_if_all_is_there(results: list[dict[str, Any]]) -> None:
    assert completed(results, [each["host"] for each in results]) == results


def test_a_guest_that_is_on_none_has_failed() -> None:
    everywhere = [seen("hv1", guest("web7"), not_here=("web9", "web8")), seen("hv2", not_here=("web9", "web8"))]
    *_results, nowhere = completed(everywhere, ["hv1", "hv2"])
    why = {"code": "not_found", "message": "no hypervisor that answered has it", "hint": ""}
    assert (nowhere["host"], nowhere["error"]) == ("(nowhere)", None)
    assert nowhere["guests"] == [{"name": name, "status": "failed", "error": why} for name in ("web8", "web9")]


def test_a_run_that_finds_no_guest_at_all_has_failed() -> None:
    *_results, nowhere = completed([seen("hv1"), seen("hv2"), seen("hv3", error=TIMEOUT)], ["hv1", "hv2", "hv3"])
    assert nowhere["error"] == {"code": "not_found", "message": "no guest was found at all", "hint": ""}


@pytest.mark.parametrize("results", [[{"host": "hv1", "not_here": "web9"}], "hv1", 5])
def test_what_are_no_results_is_refused(results: Any) -> None:
    with pytest.raises(TypeError, match="registered results"):
        completed(results, ["hv1"])

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.codes import HINTS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.results import collected, completed

NOT_FOUND = {"code": "not_found", "message": "there is no domain 'web9' at qemu:///system", "hint": "Check the name."}
OFF = {"code": "not_running", "message": "web3 is shut off", "hint": "Start it."}
TIMEOUT = {"code": "deadline", "message": "the deadline passed", "hint": ""}


def guest(name: str, status: str = "gathered", **other: Any) -> dict[str, Any]:
    return {"name": name, "status": status, **other}


def listing(*guests: dict[str, Any], **other: Any) -> dict[str, Any]:
    """Return the registered result of a task that lists guests."""
    return {"changed": False, "failed": False, "guests": list(guests), **other}


def batch(*guests: dict[str, Any]) -> dict[str, Any]:
    """Return the registered result of one batch."""
    return {"changed": True, "qga_batch": [guest(each["name"]) for each in guests], "guests": list(guests)}


def broken(*names: str, **other: Any) -> dict[str, Any]:
    """Return the registered result of a batch that failed as a whole."""
    return {"failed": True, "qga_batch": [guest(name, uuid=name * 2) for name in names], **other}


def test_a_result_has_the_guests_of_all_batches_in_order_and_those_that_were_skipped() -> None:
    done = [guest(f"web{number}", "corrected", offset_before_ns=-number) for number in range(6)]
    off = guest("db1", "skipped", reason=OFF)
    listed = listing(*(guest(each["name"]) for each in done), off)
    assert collected("hv1", listed, [batch(*done[at : at + 2]) for at in (0, 2, 4)]) == {
        "host": "hv1",
        "guests": [off, *done],
        "error": None,
        "summary": {"total": 7, "failed": 0, "skipped": 1},
        "not_here": [],
        "host_clock": None,
    }


@pytest.mark.parametrize("why", ["reason", "error"])
def test_guests_that_are_elsewhere_are_not_in_the_result(why: str) -> None:
    listed = listing(guest("web1"), guest("web9", "failed", **{why: NOT_FOUND}))
    made = collected("hv1", listed, [batch(guest("web1", "unchanged"))])
    assert ([each["name"] for each in made["guests"]], made["not_here"]) == (["web1"], ["web9"])


def test_a_listing_that_failed_is_the_error_of_the_hypervisor() -> None:
    error = {"code": "hypervisor_unavailable", "message": "refused", "hint": "Check the uri."}
    listed = {"failed": True, "msg": "Refused [hypervisor_unavailable]. Check the uri.", "error": error}
    made = collected("hv1", listed, [])
    assert (made["guests"], made["error"]) == ([], error)


def test_guests_of_a_batch_that_failed_have_its_error_and_the_hypervisor_has_the_first_one() -> None:
    worked_on, why = (
        guest("a", "unchanged"),
        {"code": "module_failed", "message": "later", "hint": HINTS["module_failed"]},
    )
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
        "host_clock": None,
    }


@pytest.mark.parametrize(
    ("registered", "code", "message"),
    [
        ({"unreachable": True, "msg": "Failed to connect"}, "unreachable", "Failed to connect"),
        ({"failed": True, "msg": "Task failed: MODULE FAILURE"}, "module_failed", "MODULE FAILURE"),
        *(
            (registered, "module_failed", "the task returned no result")
            for registered in ({"failed": True}, {"failed": True, "msg": ["a", "b"]}, {"skipped": True})
        ),
        ({"failed": True, "msg": "one\nTrace:\x1b[2J {{ x }}"}, "module_failed", r"one\nTrace:\x1b[2J \x7b{ x }}"),
        ({"failed": True, "msg": "x" * 10**6}, "module_failed", "x" * 1000 + "…"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_message_of_ansible_becomes_an_error_that_is_safe_to_show(
    registered: dict[str, Any], code: str, message: str
) -> None:
    assert collected("hv1", registered, [])["error"] == {"code": code, "message": message, "hint": HINTS[code]}


def test_other_values_in_a_result_are_left_alone() -> None:
    strange = [guest("web1", "gathered", error="odd"), {"status": None}, {"name": ["a list"], "status": "skipped"}]
    made = collected("hv1", listing(*strange), [])
    assert made["guests"] == strange[1:]


@pytest.mark.parametrize(
    ("listed", "batches"),
    [(None, []), ("text", []), ([], []), (listing(), "text"), (listing(), ["text"]), ({"guests": "text"}, [])],
)
def test_input_that_was_not_registered_is_refused(listed: Any, batches: Any) -> None:
    with pytest.raises(TypeError, match="registered"):
        collected("hv1", listed, batches)


def seen(host: str, *guests: dict[str, Any], not_here: tuple[str, ...] = (), error: Any = None) -> dict[str, Any]:
    return {"host": host, "guests": list(guests), "error": error, "not_here": list(not_here)}


def test_a_hypervisor_without_a_result_was_stopped() -> None:
    _hv1, *others = completed([seen("hv1", guest("web1"))], ["hv3", "hv1", "hv2"])
    assert {each["error"]["hint"] for each in others} == {HINTS["stopped"]}
    assert [(each["host"], each["error"]["code"], each["guests"]) for each in others] == [
        ("hv2", "stopped", []),
        ("hv3", "stopped", []),
    ]


@pytest.mark.parametrize(
    "results",
    [
        [],
        [seen("hv1", guest("web1")), seen("hv2")],
        # The guest is on another hypervisor.
        [seen("hv1", guest("web1"), not_here=("web9",)), seen("hv2", {"name": "web9"})],
        [seen("hv1", guest("web1"), not_here=("web9",)), seen("hv2", {"name": "db1", "uuid": "web9"})],
        # If no hypervisor answered, it is unknown whether there are guests.
        [seen("hv1", error=TIMEOUT)],
    ],
)
def test_nothing_is_added_if_nothing_is_missing(results: list[dict[str, Any]]) -> None:
    unchanged = [{**each, "not_found": []} for each in results]
    assert completed(results, [each["host"] for each in results]) == unchanged


def test_names_that_are_on_no_hypervisor_are_not_found() -> None:
    results = [seen("hv1", guest("web7"), not_here=("web9", "web8")), seen("hv2", not_here=("web7", "web9", "web8"))]
    found = completed(results, ["hv1", "hv2"])
    assert [each["not_found"] for each in found] == [["web9", "web8"]] * 2
    assert [each["error"] for each in found] == [None, None]


def test_a_run_that_finds_no_guests_has_failed_on_each_hypervisor_that_answered() -> None:
    one, other, lost = completed([seen("hv1"), seen("hv2"), seen("hv3", error=TIMEOUT)], ["hv1", "hv2", "hv3"])
    hint = "Check the names and patterns of the selection, and its exclusions."
    assert one["error"] == other["error"] == {"code": "not_found", "message": "no guests found", "hint": hint}
    assert lost["error"] == TIMEOUT
    # That a name was not found is the reason by itself.
    (result,) = completed([seen("hv1", not_here=("web9",))], ["hv1"])
    assert (result["error"], result["not_found"]) == (None, ["web9"])


@pytest.mark.parametrize("results", [[{"host": "hv1", "not_here": "web9"}], "hv1", 5])
def test_input_that_is_not_a_list_of_results_is_refused(results: Any) -> None:
    with pytest.raises(TypeError, match="registered results"):
        completed(results, ["hv1"])


SYNCHRONIZED, NOT_SYNCHRONIZED = ({"synchronized": each, "max_error_ns": 5} for each in (True, False))


@pytest.mark.parametrize(
    ("clocks", "clock"),
    [
        ([], None),
        ([None, "text"], None),
        ([SYNCHRONIZED, None], SYNCHRONIZED),
        ([{**SYNCHRONIZED, "max_error_ns": 6}, SYNCHRONIZED], SYNCHRONIZED),
        ([NOT_SYNCHRONIZED, SYNCHRONIZED], NOT_SYNCHRONIZED),
    ],
)
def test_the_clock_of_a_hypervisor_is_not_synchronized_if_it_was_so_at_one_task(clocks: list[Any], clock: Any) -> None:
    batches = [{**batch(guest("web1", "unchanged")), "host_clock": each} for each in clocks]
    assert collected("hv1", listing(guest("web1")), batches)["host_clock"] == clock


def test_the_clock_is_also_that_of_a_listing_or_of_a_batch_that_failed() -> None:
    listed = {**listing(guest("web1", "skipped", reason=OFF)), "host_clock": SYNCHRONIZED}
    assert collected("hv1", listed, [])["host_clock"] == SYNCHRONIZED
    assert collected("hv1", {**listing(), "host_clock": NOT_SYNCHRONIZED}, [])["host_clock"] == NOT_SYNCHRONIZED
    failed = {"failed": True, "msg": "refused", "host_clock": SYNCHRONIZED}
    assert collected("hv1", failed, [])["host_clock"] == SYNCHRONIZED
    lost = broken("web1", error=TIMEOUT, host_clock=NOT_SYNCHRONIZED)
    assert collected("hv1", listed, [lost])["host_clock"] == NOT_SYNCHRONIZED

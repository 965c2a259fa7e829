"""The modules as a user runs them: the installed collection, a real ansible-playbook, fake agents on sockets.

A playbook takes seconds, so one run does all tasks, and each test checks the result of one task.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions

from tests.fakes.agent import FakeAgent
from tests.fakes.clock import Clock
from tests.fakes.faults import Late, On, Pieces, Sent, Silent
from tests.fakes.kinds import (
    CJSON,
    CJSON_15,
    EXTENDED,
    FROZEN,
    SECOND_NS,
    SET_TIME_DISABLED,
    STOCK,
    WHOLE_MINUTES,
)
from tests.processes.ansible_run import PlaybookRun, TaskRecord, run_tasks
from tests.processes.socket_server import SocketServer, banner, listen_tcp, listen_unix
from tests.support.task_error import task_error

UPDATE = "qemu.guest_agent.qga_update_time"
INFO = "qemu.guest_agent.qga_info"
BEHIND_NS = -90 * SECOND_NS
AHEAD_NS = 900 * SECOND_NS
# The module's default. The benchmark shows the usual offset on an idle machine.
TOLERANCE_NS = ResyncOptions().tolerance_ns
# Allowance beyond the uncertainty.
SLACK_NS = 1_000_000
# Limit of a task's time in addition to its timeouts, large enough for a busy machine.
TASK_SECONDS = 30.0


@dataclass(frozen=True)
class Bad:
    """Options that cannot work, the error's code, and words of its message."""

    options: dict[str, Any]
    code: str
    words: str
    module: str = UPDATE


class Jumps:
    """A fault that steps the clock while the reply is on its way."""

    def __init__(self, clock: Clock, by_ns: int) -> None:
        self._clock, self._by_ns = clock, by_ns

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        self._clock.step(self._by_ns)
        return pieces


# {dir} is the directory of the sockets.
BAD: dict[str, Bad] = {
    "two targets": Bad({"domain": "web1", "socket": "{dir}/stock"}, "invalid_option", "domain, socket"),
    "a socket that is missing": Bad({"socket": "{dir}/missing"}, "not_found", "No such file"),
    "a socket without a listener": Bad({"socket": "{dir}/left"}, "not_connected", "Connection refused"),
    "a regular file": Bad({"socket": "{dir}/file"}, "not_connected", "Connection refused"),
    "a mail server": Bad({"socket": "{dir}/mail", "timeout": 0.5}, "unresponsive", "within 0.5 s"),
    "a mail server, for facts": Bad({"socket": "{dir}/mail", "timeout": 0.5}, "unresponsive", "within 0.5 s", INFO),
    "an agent that never answers": Bad(
        {"socket": "{dir}/silent", "timeout": 0.3, "wait_timeout": 1.0}, "unresponsive", "within"
    ),
    "a port of five thousand digits": Bad({"address": "localhost:" + "5" * 5000}, "invalid_option", "65535"),
    "an ill-formed host name": Bad({"address": "two..dots:4444"}, "not_found", "two..dots"),
    "a port that refuses": Bad({"address": "127.0.0.1:{refusing}"}, "not_connected", "Connection refused"),
    "an unknown command": Bad(
        {"socket": "{dir}/stock", "command": "guest-make-tea"}, "command_not_found", "guest-make-tea", INFO
    ),
    "a frozen guest": Bad({"socket": "{dir}/frozen"}, "frozen", "guest-get-time"),
    "a set-time that is disabled": Bad({"socket": "{dir}/disabled"}, "command_disabled", "guest-set-time"),
    "a method the agent lacks": Bad(
        {"socket": "{dir}/behind", "method": "extended"}, "command_not_found", "guest-update-time"
    ),
    "a hardware clock that must not go back": Bad(
        {"socket": "{dir}/behind", "method": "rtc", "backward": "leave"}, "invalid_option", "backward=leave"
    ),
    "an agent of whole minutes": Bad(
        {"socket": "{dir}/minutes", "time": "2030-01-01T00:00:20Z"}, "not_converged", "still off by -2"
    ),
}

RIGHT = {"status": "corrected", "changed": True, "within_tolerance": True}
STEPPED, UPDATED = {**RIGHT, "method": "set_time"}, {**RIGHT, "method": "extended"}
LEFT = {"changed": False, "within_tolerance": False, "attempts": 0}
TOO_FAR = {"changed": True, "within_tolerance": False, "attempts": 1}

# The options for one guest, and the expected members of its entry.
UPDATES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "update": ({"socket": "{dir}/stock"}, STEPPED),
    "update again": ({"socket": "{dir}/stock"}, {"status": "unchanged", "method": None, "attempts": 0}),
    "extended": ({"socket": "{dir}/extended", "tolerance": 0.001}, {**UPDATED, "resolution_ns": 1}),
    # With 17 digits, the agent returns the number of a sync unchanged; with 15, only if it is small.
    "cJSON": ({"socket": "{dir}/cjson"}, STEPPED),
    "cJSON, 17 digits": ({"socket": "{dir}/cjson-17"}, STEPPED),
    "cJSON, 17 digits, extended": ({"socket": "{dir}/cjson-17-extended"}, UPDATED),
    "tcp": ({"address": "127.0.0.1:{tcp}"}, RIGHT),
    "tcp6": ({"address": "[::1]:{tcp6}"}, RIGHT),
    "wait": ({"socket": "{dir}/booting", "timeout": 0.3, "wait_timeout": 20}, RIGHT),
    "stated time": ({"socket": "{dir}/stated", "time": "2030-01-02T03:04:05.5+01:00"}, RIGHT),
    "ahead": ({"socket": "{dir}/ahead", "backward": "leave"}, LEFT),
    "too far, stock": ({"socket": "{dir}/too-far-stock", "backward": "leave"}, TOO_FAR),
    "too far, extended": ({"socket": "{dir}/too-far-extended", "backward": "leave"}, TOO_FAR),
}

TASKS: list[dict[str, Any]] = [
    {"name": "check", UPDATE: {"socket": "{dir}/stock"}, "check_mode": True},
    *({"name": name, UPDATE: options} for name, (options, _entry) in UPDATES.items()),
    {"name": "the time of cJSON, 17 digits", INFO: {"socket": "{dir}/cjson-17-read", "gather_subset": "time"}},
    {"name": "info", INFO: {"socket": "{dir}/info"}},
    {"name": "info frozen", INFO: {"socket": "{dir}/frozen", "gather_subset": ["agent", "os", "freeze"]}},
]


def filled_in(value: Any, names: dict[str, Any]) -> Any:
    """Return the value with the {placeholders} in all of its strings replaced."""
    if isinstance(value, dict):
        return {key: filled_in(member, names) for key, member in value.items()}
    if isinstance(value, list):
        return [filled_in(item, names) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\{(\w+)\}", lambda found: str(names[found[1]]), value)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlaybookRun]:
    directory = tmp_path_factory.mktemp("sockets")
    behind = {
        "stock": STOCK,
        "behind": STOCK,
        "extended": EXTENDED,
        "frozen": FROZEN,
        "disabled": SET_TIME_DISABLED,
        "minutes": WHOLE_MINUTES,
        "stated": STOCK,
        "info": STOCK,
        "cjson": CJSON_15,
        "cjson-17": CJSON,
        "cjson-17-extended": replace(EXTENDED, number_digits=CJSON.number_digits),
        "cjson-17-read": CJSON,
    }
    booting = On("guest-sync-delimited", Late(1.0), nth=0)
    with ExitStack() as serving:
        for name, kind in behind.items():
            serving.enter_context(FakeAgent(listen_unix(directory / name), kind, Clock(BEHIND_NS)))
        serving.enter_context(FakeAgent(listen_unix(directory / "ahead"), STOCK, Clock(5 * SECOND_NS)))
        serving.enter_context(FakeAgent(listen_unix(directory / "silent"), faults=(Silent(),)))
        for name, kind, command in (("stock", STOCK, "guest-set-time"), ("extended", EXTENDED, "guest-update-time")):
            clock = Clock(BEHIND_NS)
            jump = On(command, Jumps(clock, AHEAD_NS), nth=0)
            listener = listen_unix(directory / f"too-far-{name}")
            serving.enter_context(FakeAgent(listener, kind, clock, faults=(jump,)))
        serving.enter_context(FakeAgent(listen_unix(directory / "booting"), STOCK, Clock(BEHIND_NS), faults=(booting,)))
        serving.enter_context(SocketServer(listen_unix(directory / "mail"), banner(b"220 mail.example.org ESMTP\r\n")))
        tcp, tcp6, refusing = listen_tcp(), listen_tcp("::1"), listen_tcp()
        serving.enter_context(FakeAgent(tcp, STOCK, Clock(BEHIND_NS)))
        serving.enter_context(FakeAgent(tcp6, STOCK, Clock(BEHIND_NS)))
        (directory / "file").touch()
        listen_unix(directory / "left").close()
        names = {
            "dir": directory,
            "tcp": tcp.getsockname()[1],
            "tcp6": tcp6.getsockname()[1],
            "refusing": refusing.getsockname()[1],
        }
        refusing.close()
        bad = [{"name": name, case.module: case.options} for name, case in BAD.items()]
        tasks = [{**filled_in(task, names), "ignore_errors": True} for task in [*TASKS, *bad]]
        yield run_tasks(tasks)


def record_of(done: PlaybookRun, task: str) -> TaskRecord:
    (record,) = (record for record in done.tasks if record.task == task)
    return record


def entry(done: PlaybookRun, task: str) -> dict[str, Any]:
    """Return the guest's entry in the result of a task that succeeded."""
    result = done.result(task)
    assert record_of(done, task).outcome == "ok", result["msg"]
    assert "guests" not in result
    guest: dict[str, Any] = result["guest"]
    return guest


def test_the_whole_run_succeeds_without_a_traceback(done: PlaybookRun) -> None:
    assert done.status == 0, done.output
    assert "Traceback" not in done.output
    assert len(done.tasks) == len(TASKS) + len(BAD)


@pytest.mark.parametrize("task", UPDATES)
def test_each_guest_is_updated_as_its_agent_and_the_options_allow(task: str, done: PlaybookRun) -> None:
    guest, expected = entry(done, task), UPDATES[task][1]
    assert {name: guest[name] for name in expected} == expected
    assert done.result(task)["changed"] is guest["changed"]
    if expected.get("status") == "corrected":
        assert abs(guest["offset_after_ns"]) <= TOLERANCE_NS
    if expected == TOO_FAR:
        assert abs(guest["offset_after_ns"] - AHEAD_NS) <= TOLERANCE_NS
        assert any("ahead and was left alone" in warning for warning in done.result(task)["warnings"])


def test_check_mode_predicts_the_change_and_changes_nothing(done: PlaybookRun) -> None:
    guest = entry(done, "check")
    assert (guest["status"], guest["changed"], guest["attempts"]) == ("would_correct", True, 0)
    assert guest["offset_after_ns"] is None
    # The next run found the guest's clock as late as before.
    for found in (guest, entry(done, "update")):
        assert abs(found["offset_before_ns"] - BEHIND_NS) <= found["uncertainty_before_ns"] + SLACK_NS


def test_a_given_time_replaces_the_hosts_time(done: PlaybookRun) -> None:
    stated_ns = 1893549845 * SECOND_NS + SECOND_NS // 2
    assert 0 <= entry(done, "stated time")["guest_time_after_ns"] - stated_ns < TASK_SECONDS * SECOND_NS


@pytest.mark.parametrize("task", ["info", "the time of cJSON, 17 digits"])
def test_facts_are_gathered_and_the_time_is_measured(task: str, done: PlaybookRun) -> None:
    guest = entry(done, task)
    assert guest["errors"] == {}
    assert abs(guest["time"]["offset_ns"] - BEHIND_NS) <= guest["time"]["uncertainty_ns"] + SLACK_NS
    if task == "info":
        assert guest["agent"]["kind"] == "stock"
        assert guest["os"]["kernel_release"] == "6.1.0-25-cloud-amd64"
        assert guest["network"][0]["ip_addresses"][0]["ip_address"] == "10.0.2.15"


def test_facts_of_a_frozen_guest_are_returned_or_explained(done: PlaybookRun) -> None:
    guest = entry(done, "info frozen")
    assert (guest["freeze"], guest["agent"]["kind"]) == ("frozen", "stock")
    assert {name: error["code"] for name, error in guest["errors"].items()} == {"os": "frozen"}


# Agents of other versions and systems: test_agents_in_the_field.py.
@pytest.mark.parametrize("name", BAD)
def test_bad_input_fails_in_time_with_one_clear_sentence(name: str, done: PlaybookRun) -> None:
    case, record = BAD[name], record_of(done, name)
    result = record.result
    assert record.outcome == "failed"
    error = task_error(result)
    assert error is not None
    assert error["code"] == case.code, result["msg"]
    assert f"[{case.code}]" in result["msg"]
    assert case.words.lower() in result["msg"].lower()
    assert "\n" not in result["msg"]
    assert error["hint"]
    assert result["changed"] is (case.code == "not_converged")
    assert record.seconds < sum(case.options.get(f"{each}timeout", 0) for each in ("", "wait_")) + TASK_SECONDS

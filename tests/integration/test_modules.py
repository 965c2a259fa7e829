"""The modules as a user runs them: the installed collection, a real ansible-playbook, fake agents behind sockets.

A playbook run costs seconds, so one run does all tasks, and the tests look at what came of each.
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
from tests.fakes.faults import Delays, Late, On, Pieces, Sent, Silent
from tests.fakes.kinds import (
    BEFORE_4_2,
    CJSON,
    CJSON_15,
    EXTENDED,
    FROZEN,
    NO_HWCLOCK,
    NO_RTC,
    SECOND_NS,
    SET_TIME_DISABLED,
    STOCK,
    WHOLE_MINUTES,
)
from tests.processes.ansible_run import PlaybookRun, TaskRecord, run_tasks
from tests.processes.socket_server import SocketServer, banner, listen_tcp, listen_unix

UPDATE = "qemu.guest_agent.qga_update_time"
INFO = "qemu.guest_agent.qga_info"
BEHIND_NS = -90 * SECOND_NS
AHEAD_NS = 900 * SECOND_NS
# An answer that takes this long proves the offset to 0.15 s at best.
SLOW = Delays(forward=(0.2,), backward=(0.1,))
# The module's, unless a task says otherwise. How near it comes on a quiet machine, the benchmark tells.
TOLERANCE_NS = ResyncOptions().tolerance_ns
# What is beyond an uncertainty that holds.
SLACK_NS = 1_000_000
# What one task may take besides its time limits: enough on a busy machine, too, and not for ever.
TASK_SECONDS = 30.0


@dataclass(frozen=True)
class Bad:
    """Options that cannot work, the error's code, and what its sentence must name."""

    options: dict[str, Any]
    code: str
    says: str
    module: str = UPDATE


class Jumps:
    """The clock jumps as the reply is on its way."""

    def __init__(self, clock: Clock, by_ns: int) -> None:
        self._clock, self._by_ns = clock, by_ns

    def __call__(self, _sent: Sent, pieces: Pieces) -> Pieces:
        self._clock.step(self._by_ns)
        return pieces


# {dir} is the directory of the sockets.
BAD: dict[str, Bad] = {
    "no target": Bad({}, "invalid_option", "no guest is named"),
    "two targets": Bad({"domain": "web1", "socket": "{dir}/stock"}, "invalid_option", "domain, socket"),
    "an empty target": Bad({"address": ""}, "invalid_option", "address is empty"),
    "a socket that is missing": Bad({"socket": "{dir}/missing"}, "not_found", "No such file"),
    "a socket that is missing, for facts": Bad({"socket": "{dir}/missing"}, "not_found", "No such file", INFO),
    "a socket that nobody serves": Bad({"socket": "{dir}/left"}, "not_connected", "Connection refused"),
    "a regular file": Bad({"socket": "{dir}/file"}, "not_connected", "Connection refused"),
    "a path too long": Bad({"socket": "{dir}/" + "x" * 110}, "invalid_option", "107 bytes"),
    "a mail server": Bad({"socket": "{dir}/mail", "timeout": 0.5}, "unresponsive", "within 0.5 s"),
    "a mail server, for facts": Bad({"socket": "{dir}/mail", "timeout": 0.5}, "unresponsive", "within 0.5 s", INFO),
    "an agent that never answers": Bad(
        {"socket": "{dir}/silent", "timeout": 0.3, "wait_timeout": 1.0}, "unresponsive", "within"
    ),
    "an address without port": Bad({"address": "localhost"}, "invalid_option", "host:port"),
    "a port of five thousand digits": Bad({"address": "localhost:" + "5" * 5000}, "invalid_option", "65535"),
    "a port too high": Bad({"address": "localhost:65536"}, "invalid_option", "65535"),
    "a name that is none": Bad({"address": "two..dots:4444"}, "not_found", "two..dots"),
    "a port that refuses": Bad({"address": "127.0.0.1:{refusing}"}, "not_connected", "Connection refused"),
    "a vsock without port": Bad({"vsock": "3"}, "invalid_option", "cid:port"),
    "a tolerance below zero": Bad({"socket": "{dir}/stock", "tolerance": -0.1}, "invalid_option", "tolerance is -0.1"),
    "no time at all": Bad({"socket": "{dir}/stock", "timeout": 0}, "invalid_option", "timeout is 0"),
    "no attempts": Bad({"socket": "{dir}/stock", "attempts": 0}, "invalid_option", "attempts is 0"),
    "a time without zone": Bad({"socket": "{dir}/stock", "time": "2026-11-23 04:05:06"}, "invalid_option", "no zone"),
    "a time too late": Bad({"socket": "{dir}/stock", "time": "1e12"}, "invalid_option", "1970 to 2261"),
    "an unknown subset": Bad(
        {"socket": "{dir}/stock", "gather_subset": ["os", "weather"]}, "invalid_option", "weather", INFO
    ),
    "an unknown command": Bad(
        {"socket": "{dir}/stock", "command": "guest-make-tea"}, "command_not_found", "guest-make-tea", INFO
    ),
    "a frozen guest": Bad({"socket": "{dir}/frozen"}, "frozen", "guest-get-time"),
    "a set-time that is disabled": Bad({"socket": "{dir}/disabled"}, "command_disabled", "guest-set-time"),
    "a frozen guest before 4.2": Bad({"socket": "{dir}/frozen-before-4.2"}, "frozen", "guest-get-time"),
    "a get-time that was disabled before 4.2": Bad(
        {"socket": "{dir}/disabled-before-4.2"}, "command_disabled", "guest-get-time"
    ),
    "a guest without hwclock": Bad({"socket": "{dir}/no-hwclock"}, "not_supported", "install util-linux-extra"),
    "an agent that refuses to be synced with": Bad(
        {"socket": "{dir}/unsynced"}, "command_disabled", "guest-sync-delimited and guest-sync"
    ),
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

TASKS: list[dict[str, Any]] = [
    {"name": "check", UPDATE: {"socket": "{dir}/stock"}, "check_mode": True, "diff": True},
    {"name": "update", UPDATE: {"socket": "{dir}/stock"}, "diff": True},
    {"name": "update again", UPDATE: {"socket": "{dir}/stock"}, "diff": True},
    {"name": "extended", UPDATE: {"socket": "{dir}/extended", "tolerance": 0.001}},
    {"name": "no RTC", UPDATE: {"socket": "{dir}/no-rtc"}},
    {"name": "cJSON", UPDATE: {"socket": "{dir}/cjson"}},
    {"name": "cJSON, 17 digits", UPDATE: {"socket": "{dir}/cjson-17"}},
    {"name": "cJSON, 17 digits, extended", UPDATE: {"socket": "{dir}/cjson-17-extended"}},
    {"name": "the time of cJSON, 17 digits", INFO: {"socket": "{dir}/cjson-17-read", "gather_subset": "time"}},
    {"name": "tcp", UPDATE: {"address": "127.0.0.1:{tcp}"}},
    {"name": "tcp6", UPDATE: {"address": "[::1]:{tcp6}"}},
    {"name": "stated time", UPDATE: {"socket": "{dir}/stated", "time": "2030-01-02T03:04:05.5+01:00"}},
    {"name": "ahead", UPDATE: {"socket": "{dir}/ahead", "backward": "leave"}},
    *(
        {"name": f"too far, {name}", UPDATE: {"socket": f"{{dir}}/too-far-{name}", "backward": "leave"}}
        for name in ("stock", "extended")
    ),
    {"name": "slow ones", UPDATE: {"sockets": ["{dir}/slow-*", "{dir}/stock"], "timeout": 1}},
    {"name": "one that is slow", UPDATE: {"socket": "{dir}/slow-late", "timeout": 1}},
    {"name": "slow but wide", UPDATE: {"socket": "{dir}/slow-right", "tolerance": 2}},
    {"name": "wait", UPDATE: {"socket": "{dir}/booting", "timeout": 0.3, "wait_timeout": 20}},
    {"name": "info", INFO: {"socket": "{dir}/info"}},
    {"name": "info min", INFO: {"socket": "{dir}/info", "gather_subset": "min"}, "check_mode": True},
    {"name": "info but", INFO: {"socket": "{dir}/info", "gather_subset": ["!commands", "!network"]}},
    {"name": "info frozen", INFO: {"socket": "{dir}/frozen", "gather_subset": ["agent", "os", "freeze"]}},
    {"name": "info command", INFO: {"socket": "{dir}/info", "command": "guest-exec"}},
]


def filled_in(value: Any, names: dict[str, Any]) -> Any:
    """The value with the {placeholders} in its strings replaced, in depth."""
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
        "no-rtc": NO_RTC,
        "frozen": FROZEN,
        "disabled": SET_TIME_DISABLED,
        "minutes": WHOLE_MINUTES,
        "stated": STOCK,
        "info": STOCK,
        "cjson": CJSON_15,
        "cjson-17": CJSON,
        "cjson-17-extended": replace(EXTENDED, number_digits=CJSON.number_digits),
        "cjson-17-read": CJSON,
        "no-hwclock": NO_HWCLOCK,
        "frozen-before-4.2": replace(BEFORE_4_2, is_frozen=True),
        "disabled-before-4.2": replace(BEFORE_4_2, disabled=frozenset(("guest-get-time",))),
        "unsynced": replace(BEFORE_4_2, disabled=frozenset(("guest-sync", "guest-sync-delimited"))),
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
        for name, offset_ns in (("right", 0), ("late", BEHIND_NS)):
            listener = listen_unix(directory / f"slow-{name}")
            serving.enter_context(FakeAgent(listener, EXTENDED, Clock(offset_ns), delays=SLOW))
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


def entry(done: PlaybookRun, task: str) -> dict[str, Any]:
    """The one guest's entry in the result of a task that succeeded."""
    result = done.result(task)
    assert record_of(done, task).outcome == "ok", result["msg"]
    assert result["guests"] == [result["guest"]]
    guest: dict[str, Any] = result["guest"]
    return guest


def test_the_whole_run_ends_well_and_without_a_traceback(done: PlaybookRun) -> None:
    assert done.status == 0, done.output
    assert "Traceback" not in done.output
    assert len(done.tasks) == len(TASKS) + len(BAD)


# ------------------------------------------------------------------------------------------------------ qga_update_time


def test_check_mode_tells_what_it_would_do_and_does_nothing(done: PlaybookRun) -> None:
    result, guest = done.result("check"), entry(done, "check")
    assert (result["changed"], guest["changed"], guest["attempts"], guest["method"]) == (True, True, 0, "set_time")
    assert guest["offset_after_ns"] is None
    # The run after it found the guest's clock as late as before.
    for found in (guest, entry(done, "update")):
        assert abs(found["offset_before_ns"] - BEHIND_NS) <= found["uncertainty_before_ns"] + SLACK_NS


def test_the_clock_is_set_once_and_left_alone_by_the_second_run(done: PlaybookRun) -> None:
    first, second = entry(done, "update"), entry(done, "update again")
    assert (done.result("update")["changed"], first["changed"], first["within_tolerance"]) == (True, True, True)
    assert abs(first["offset_after_ns"]) <= TOLERANCE_NS
    assert (done.result("update again")["changed"], second["changed"], second["attempts"]) == (False, False, 0)
    assert second["method"] is None


@pytest.mark.parametrize("task", ["check", "update"])
def test_diff_mode_shows_the_guests_time_before_and_after(task: str, done: PlaybookRun) -> None:
    diff = done.result(task)["diff"]
    instant = r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z\n"
    assert re.fullmatch(instant, diff["before"])
    assert re.fullmatch(instant, diff["after"])
    guest = entry(done, task)
    assert abs(guest["guest_time_after_ns"] - guest["guest_time_before_ns"] + BEHIND_NS) <= TOLERANCE_NS


def test_results_are_whole_nanoseconds(done: PlaybookRun) -> None:
    guest = entry(done, "update")
    figures = {name: value for name, value in guest.items() if name.endswith("_ns")}
    assert len(figures) == 9
    assert all(value.__class__ is int for value in figures.values())
    assert guest["name"].endswith("/stock")


def test_the_extended_agent_is_given_a_delta(done: PlaybookRun) -> None:
    guest = entry(done, "extended")
    assert (guest["method"], guest["changed"], guest["resolution_ns"]) == ("extended", True, 1)
    assert abs(guest["offset_after_ns"]) <= TOLERANCE_NS


# With 17 digits, the number that a sync echoes is the one that was sent, whichever it is; with 15, it has to be small.
@pytest.mark.parametrize(
    ("task", "method", "resolution_ns"),
    [
        ("cJSON", "set_time", 10_000),
        ("cJSON, 17 digits", "set_time", 256),
        ("cJSON, 17 digits, extended", "extended", 256),
    ],
)
def test_an_agent_that_writes_its_time_as_a_double_is_set_right(
    task: str, method: str, resolution_ns: int, done: PlaybookRun
) -> None:
    guest = entry(done, task)
    assert (guest["method"], guest["changed"], guest["within_tolerance"]) == (method, True, True)
    assert resolution_ns <= guest["resolution_ns"] < SLACK_NS


def test_a_guest_without_hwclock_is_asked_once(done: PlaybookRun) -> None:
    guest = record_of(done, "a guest without hwclock").result["guest"]
    assert (guest["attempts"], guest["changed"]) == (1, False)
    assert "apt install util-linux-extra" in guest["error"]["hint"]


def test_without_an_rtc_the_agents_error_is_a_warning(done: PlaybookRun) -> None:
    assert entry(done, "no RTC")["within_tolerance"] is True
    (warning,) = (each for each in done.result("no RTC")["warnings"] if "hwclock" in each)
    assert "no-rtc: the clock was set although the agent reported an error" in warning


@pytest.mark.parametrize("task", ["tcp", "tcp6", "wait"])
def test_every_way_to_an_agent_ends_in_the_right_time(task: str, done: PlaybookRun) -> None:
    guest = entry(done, task)
    assert (guest["changed"], guest["within_tolerance"]) == (True, True)


def test_a_stated_time_takes_the_hosts_place(done: PlaybookRun) -> None:
    guest = entry(done, "stated time")
    stated_ns = 1893549845 * SECOND_NS + SECOND_NS // 2
    assert 0 <= guest["guest_time_after_ns"] - stated_ns < TASK_SECONDS * SECOND_NS
    assert abs(guest["offset_after_ns"]) <= TOLERANCE_NS


def test_a_guest_that_is_ahead_is_left_alone_with_a_warning(done: PlaybookRun) -> None:
    guest = entry(done, "ahead")
    assert (guest["changed"], guest["within_tolerance"], guest["attempts"]) == (False, False, 0)
    assert any("backward=leave" in warning for warning in done.result("ahead")["warnings"])


@pytest.mark.parametrize("agent", ["stock", "extended"])
def test_a_guest_that_a_step_took_too_far_is_left_so_with_a_warning(agent: str, done: PlaybookRun) -> None:
    guest = entry(done, f"too far, {agent}")
    assert (guest["changed"], guest["within_tolerance"], guest["attempts"]) == (True, False, 1)
    assert abs(guest["offset_after_ns"] - AHEAD_NS) <= TOLERANCE_NS
    (warning,) = (each for each in done.result(f"too far, {agent}")["warnings"] if "backward=leave" in each)
    assert "s ahead and was left so" in warning


def test_a_clock_that_slow_answers_cannot_prove_right_has_failed_and_nothing_is_claimed(done: PlaybookRun) -> None:
    late, right, stock = done.result("slow ones")["guests"]
    assert (late["changed"], right["changed"], stock["status"]) == (True, False, "unchanged")
    for guest in (late, right):
        assert (guest["status"], guest["within_tolerance"]) == ("failed", None)
        assert guest["error"]["code"] == "not_converged"
        assert "is not proven to be within the tolerance of 0.100000 s: it is off by" in guest["error"]["message"]
        assert "raise tolerance" in guest["error"]["hint"]


def test_fail_on_counts_clocks_that_are_not_proven_right(done: PlaybookRun) -> None:
    result = done.result("slow ones")
    assert record_of(done, "slow ones").outcome == "failed"
    assert (result["summary"]["total"], result["summary"]["failed"], result["summary"]["unchanged"]) == (3, 2, 1)
    assert "2 of 3 guests failed" in result["msg"]
    assert "not_converged" in result["msg"]
    one = done.result("one that is slow")
    assert record_of(done, "one that is slow").outcome == "failed"
    assert "is not proven to be within the tolerance" in one["msg"]
    assert "[not_converged]" in one["msg"]


def test_a_tolerance_that_can_be_proven_by_slow_answers_is(done: PlaybookRun) -> None:
    guest = entry(done, "slow but wide")
    assert (guest["changed"], guest["within_tolerance"]) == (False, True)


# ------------------------------------------------------------------------------------------------------------- qga_info


def test_all_facts(done: PlaybookRun) -> None:
    guest = entry(done, "info")
    assert done.result("info")["changed"] is False
    assert guest["errors"] == {}
    assert guest["agent"]["kind"] == "stock"
    assert guest["os"]["kernel_release"] == "6.1.0"
    assert guest["network"][0]["ip_addresses"][0]["ip_address"] == "127.0.0.1"
    assert abs(guest["time"]["offset_ns"] - BEHIND_NS) <= guest["time"]["uncertainty_ns"] + SLACK_NS


def test_a_time_that_is_written_as_a_double_is_read(done: PlaybookRun) -> None:
    guest = entry(done, "the time of cJSON, 17 digits")
    assert guest["errors"] == {}
    assert abs(guest["time"]["offset_ns"] - BEHIND_NS) <= guest["time"]["uncertainty_ns"] + SLACK_NS


def test_subsets_are_what_was_asked_for(done: PlaybookRun) -> None:
    assert set(entry(done, "info min")) == {"name", "status", "agent", "hostname", "os", "timezone", "errors"}
    assert set(entry(done, "info")) - set(entry(done, "info but")) == {"commands", "network"}


def test_facts_of_a_frozen_guest_are_had_or_explained(done: PlaybookRun) -> None:
    guest = entry(done, "info frozen")
    assert (guest["freeze"], guest["agent"]["kind"]) == ("frozen", "stock")
    assert {name: error["code"] for name, error in guest["errors"].items()} == {"os": "frozen"}


def test_details_of_one_command(done: PlaybookRun) -> None:
    details = entry(done, "info command")["command"]
    assert (details["name"], details["enabled"], details["details_from"]) == ("guest-exec", True, "catalogue")
    assert details["arguments"][0] == {"name": "path", "type": "str", "optional": False}


# ------------------------------------------------------------------------------------------------------------ bad input


def record_of(done: PlaybookRun, task: str) -> TaskRecord:
    (record,) = (record for record in done.tasks if record.task == task)
    return record


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_in_one_clear_sentence(name: str, done: PlaybookRun) -> None:
    case, record = BAD[name], record_of(done, name)
    result = record.result
    assert record.outcome == "failed"
    assert result["error"]["code"] == case.code, result["msg"]
    assert f"[{case.code}]" in result["msg"]
    assert case.says.lower() in result["msg"].lower()
    assert "\n" not in result["msg"]
    assert result["error"]["hint"]
    assert result["changed"] is (case.code == "not_converged")


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_in_time(name: str, done: PlaybookRun) -> None:
    case, record = BAD[name], record_of(done, name)
    limits = (
        0.0 if case.code == "invalid_option" else sum(case.options.get(f"{each}timeout", 0) for each in ("", "wait_"))
    )
    assert record.seconds < limits + TASK_SECONDS


def test_errors_about_a_guest_name_it_and_keep_its_figures(done: PlaybookRun) -> None:
    result = done.result("an agent of whole minutes")
    assert result["guest"]["name"].endswith("/minutes")
    assert result["guest"]["error"] == result["error"]
    assert result["guest"]["offset_after_ns"] < -SECOND_NS
    assert result["guest"]["attempts"] == 3

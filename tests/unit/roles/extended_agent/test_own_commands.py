"""The agent's own commands, with a fake clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.extended_agent import module

own_commands = module("own_commands")
policy = module("policy")
stock = module("stock")
messages = module("_protocol.messages", "guest_agent")
Discipline = module("clock").Discipline

NOW_NS = 1_795_406_754_123_456_789
LAST_NS = 9_214_646_400 * 10**9 - 1


class Own:
    """The commands without a stock agent. This object is their clock, and records its ``steps``."""

    def __init__(self, directory: Path) -> None:
        log, loop, costs = module("log").Log(), module("loop").Loop(), module("limits").Costs()
        self.known = stock.Stock(loop, str(directory / "none"), str(directory), costs, log)
        self.update_rtc: Any = lambda: None
        self.steps: list[tuple[str, int]] = []
        self.errors: list[Exception] = []
        self.kept = Discipline(False, 2_000)
        self._reading_ns = NOW_NS

    def ask(self, command: str, received_ns: int = NOW_NS, **arguments: Any) -> Any:
        rules = policy.Policy(policy.Lists(), self.known)
        context = own_commands.Context(self, self.known, rules, self.update_rtc)
        return json.loads(own_commands.carry_out(context, command, arguments, received_ns))

    def update(self, **arguments: Any) -> Any:
        return self.ask("guest-update-time", **arguments)

    def refusal(self, command: str = "guest-update-time", **arguments: Any) -> tuple[str, str]:
        with pytest.raises(module("refusal").Refusal) as caught:
            self.ask(command, **arguments)
        return caught.value.description, caught.value.kind

    def now_ns(self) -> int:
        return self._reading_ns

    def set_ns(self, epoch_ns: int) -> None:
        self._step("set", epoch_ns, epoch_ns)

    def shift_ns(self, delta_ns: int) -> None:
        self._step("shift", delta_ns, self._reading_ns + delta_ns)

    def slew_ns(self, delta_ns: int) -> None:
        self._step("slew", delta_ns, self._reading_ns)

    def discipline(self) -> Any:
        return self.kept

    def _step(self, kind: str, amount_ns: int, result_ns: int) -> None:
        for error in self.errors:
            raise error
        self.steps.append((kind, amount_ns))
        self._reading_ns = result_ns


@pytest.fixture
def own(tmp_path: Path) -> Own:
    return Own(tmp_path)


def failing(error: Exception) -> Any:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        ({"seconds": 5}, ("set", 5_000_000_000)),
        ({"seconds": 5, "nanoseconds": 7}, ("set", 5_000_000_007)),
        ({"seconds": 5, "nanoseconds": "000000007"}, ("set", 5_000_000_007)),
        ({"seconds": 5, "nanoseconds": "70"}, ("set", 5_000_000_070)),
        ({"seconds": 0, "relative": False}, ("set", 0)),
        ({"seconds": 9_214_646_399, "nanoseconds": 999_999_999}, ("set", LAST_NS)),
        ({"seconds": 1, "relative": True, "slew": False}, ("shift", 1_000_000_000)),
        ({"seconds": -1, "nanoseconds": 1, "relative": True}, ("shift", -999_999_999)),
        ({"seconds": -1_795_406_754, "relative": True}, ("shift", -1_795_406_754_000_000_000)),
    ],
)
def test_the_clock_is_stepped_once_as_requested(own: Own, arguments: dict[str, Any], step: tuple[str, int]) -> None:
    assert own.update(**arguments) == {"before": NOW_NS, "after": own.now_ns()}
    assert own.steps == [step]


EXPECTS_INTEGER = "Invalid parameter type for '{}', expected: integer"
EXPECTS_BOOLEAN = "Invalid parameter type for '{}', expected: boolean"
SLEW = {"seconds": 0, "slew": True, "relative": True}
WRONG: dict[str, list[dict[str, Any]]] = {
    "Parameter 'seconds' is missing": [{}],
    EXPECTS_INTEGER.format("seconds"): [{"seconds": value} for value in (True, 1.0, "1", None, 2**63)],
    EXPECTS_INTEGER.format("nanoseconds"): [{"seconds": 1, "nanoseconds": value} for value in (1.5, False)],
    "Parameter 'nanoseconds' expects a number from 0 to 999999999": [
        {"seconds": 1, "nanoseconds": value} for value in (-1, 10**9)
    ],
    "Parameter 'nanoseconds' expects a decimal number from 0 to 999999999": [
        {"seconds": 1, "nanoseconds": value} for value in ("1e3", "", "-1", "\u0661")
    ],
    EXPECTS_BOOLEAN.format("relative"): [{"seconds": 1, "relative": 1}],
    EXPECTS_BOOLEAN.format("rtc"): [{"seconds": 1, "rtc": "yes"}],
    EXPECTS_BOOLEAN.format("slew"): [{**SLEW, "slew": 1}],
    "Parameter 'other' is unexpected": [{"seconds": 1, "other": 1}],
    "Parameter 'slew' expects 'relative'": [{"seconds": 0, "slew": True}, {**SLEW, "relative": False}],
    "Parameter 'slew' excludes 'rtc'": [{**SLEW, "rtc": True}],
    "Parameter 'slew' expects a difference of half a second at most": [
        {**SLEW, "seconds": seconds, "nanoseconds": nanoseconds}
        for seconds, nanoseconds in ((0, 500_000_001), (-1, 499_999_999), (1, 0), (-2, 0), (2**62, 0))
    ],
    "The resulting time is not within the years 1970 to 2261": [
        {"seconds": -1},
        {"seconds": 9_214_646_400},
        {"seconds": 2**63 - 1, "relative": True},
        {"seconds": -1_795_406_755, "relative": True},
    ],
}


@pytest.mark.parametrize(
    ("arguments", "message"), [(each, message) for message, wrong in WRONG.items() for each in wrong]
)
def test_wrong_arguments_are_refused_before_the_clock_changes(
    own: Own, arguments: dict[str, Any], message: str
) -> None:
    assert own.refusal(**arguments) == (message, "GenericError")
    assert own.steps == []


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "delta_ns"),
    [(0, 500_000_000, 500_000_000), (-1, 500_000_000, -500_000_000), (-1, "800000000", -200_000_000), (0, 0, 0)],
)
def test_a_slew_is_started_once_and_its_duration_returned(
    own: Own, seconds: int, nanoseconds: int | str, delta_ns: int
) -> None:
    returned = own.update(seconds=seconds, nanoseconds=nanoseconds, relative=True, slew=True)
    assert returned == {"before": NOW_NS, "after": NOW_NS, "duration": abs(delta_ns) * 2000}
    assert own.steps == [("slew", delta_ns)]


def test_a_clock_that_a_time_service_disciplines_is_not_slewed_but_may_be_stepped(own: Own) -> None:
    own.kept = Discipline(False, 2_000, is_disciplined=True)
    assert own.refusal(**SLEW)[0] == "The clock was not slewed: another time service disciplines it"
    own.update(seconds=1, relative=True)
    assert own.steps == [("shift", 10**9)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(1, "Operation not permitted"), "this agent lacks the capability CAP_SYS_TIME"),
        (OSError(22, "Invalid argument"), "Invalid argument"),
        (MemoryError(), "out of memory"),
        (OverflowError("too large"), "too large"),
    ],
)
@pytest.mark.parametrize("arguments", [{"seconds": 1}, {"seconds": 1, "relative": True}, SLEW])
def test_a_refusal_of_the_kernel_becomes_an_error(
    own: Own, error: Exception, words: str, arguments: dict[str, Any]
) -> None:
    own.errors = [error]
    assert own.refusal(**arguments) == (f"The clock was not set: {words}", "GenericError")


@pytest.mark.parametrize(
    ("error", "words"), [(OSError(1, "Not permitted"), "Not permitted"), (RuntimeError(), "RuntimeError")]
)
def test_a_clock_that_cannot_be_read_becomes_an_error(own: Own, error: Exception, words: str) -> None:
    own.discipline = failing(error)  # type: ignore[method-assign]
    assert own.refusal("guest-get-clock") == (f"guest-get-clock failed: {words}", "GenericError")


@pytest.mark.parametrize(
    ("rtc", "arguments", "problem"),
    [
        (lambda: None, {"rtc": True}, None),
        (lambda: "no RTC", {"rtc": True}, "no RTC"),
        (lambda: "not asked for", {}, None),
        (failing(OSError(24, "Too many files")), {"rtc": True}, "the hardware clock was not set: Too many files"),
        (failing(MemoryError("no memory")), {"rtc": True}, "the hardware clock was not set: no memory"),
        (failing(RuntimeError("no thread")), {"rtc": True}, "the hardware clock was not set: no thread"),
    ],
)
def test_a_step_is_reported_even_if_the_hardware_clock_fails(
    own: Own, rtc: Any, arguments: dict[str, Any], problem: str | None
) -> None:
    own.update_rtc = rtc
    expected = {"before": NOW_NS, "after": 5 * 10**9, **({} if problem is None else {"rtc-error": problem})}
    assert own.update(seconds=5, **arguments) == expected


def test_guest_get_clock_returns_both_readings_and_the_rest_of_a_slew(own: Own) -> None:
    own.kept = Discipline(False, 2_000, -199_500_000, is_disciplined=True)
    assert own.ask("guest-get-clock", NOW_NS - 5) == {
        "received": NOW_NS - 5,
        "transmitted": NOW_NS,
        "synchronized": False,
        "max-error": 2_000,
        "slewing": -199_500_000,
        "slewable": False,
    }


def test_guest_info_adds_what_an_old_stock_agent_lacks(own: Own) -> None:
    listed = [{"name": "guest-shutdown", "enabled": True}, {"name": "guest-new", "enabled": False}]
    own.known.info = stock.read_info(messages.Returned({"version": "1.6.0", "supported_commands": listed}))
    info = own.ask("guest-info")
    assert info["version"] == "1.6.0"
    assert info["supported_commands"][:2] == [
        {"name": "guest-shutdown", "enabled": True, "success-response": False},
        {"name": "guest-new", "enabled": False, "success-response": True},
    ]
    assert {each["name"] for each in info["supported_commands"][2:]} == policy.OWN_COMMANDS


def test_guest_get_command_info_describes_one_command(own: Own) -> None:
    details = own.ask("guest-get-command-info", name="guest-ping")
    assert details.pop("description")
    assert details == {
        "name": "guest-ping",
        "enabled": True,
        "success-response": True,
        "since": "0.15.0",
        "arguments": [],
        "returns": "none",
        "origin": "stock",
    }
    details = own.ask("guest-get-command-info", name="guest-update-time")
    assert details["origin"] == "extended"
    assert details["arguments"][0] == {"name": "seconds", "type": "int", "optional": False}
    assert own.refusal("guest-get-command-info", name="guest-get-devices")[1] == "CommandNotFound"

"""Reading a guest's clock by its agent, as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import measuring as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import (
    STOCK_RESOLUTION_NS,
    Measurement,
    Slew,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Reply, Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import decode

from tests.fakes.clock import Clock
from tests.fakes.guest import (
    EXTENDED_COMMANDS,
    MICROSECOND,
    MILLISECOND,
    SECOND,
    STOCK_COMMANDS,
    SimulatedGuest,
    TimeLine,
)
from tests.support.blocking import blocking

TICK_NS = 15_625_000  # Windows' clock


def rewritten(reply: Reply, write: Callable[[int], str]) -> Reply:
    """The reply as an agent sends it that writes its times in another way."""
    assert isinstance(reply, Returned)
    if isinstance(reply.value, int):
        return Returned(decode(write(reply.value).encode()))
    times = {name: decode(write(reply.value[name]).encode()) for name in ("received", "transmitted")}
    return Returned({**reply.value, **times})


# How agents write nanoseconds that they keep as a double, and how far apart such numbers are.
WRITTEN: Mapping[str, tuple[Callable[[int], str], int]] = {
    "17 digits": (lambda time_ns: f"{float(time_ns):.16e}", 256),
    "17 digits, E": (lambda time_ns: f"{float(time_ns):.16E}", 256),
    "all digits": (lambda time_ns: f"{float(time_ns):.1f}", 256),
    "as many as tell it apart": (lambda time_ns: repr(float(time_ns)), 256),
    "16 digits": (lambda time_ns: f"{float(time_ns):.16g}", 1_000),
    "15 digits": (lambda time_ns: f"{float(time_ns):.15g}", 10_000),
    "14 digits": (lambda time_ns: f"{float(time_ns):.14g}", 100_000),
    "10 digits": (lambda time_ns: f"{float(time_ns):.10g}", 1_000_000_000),
}


def against_monotonic(line: TimeLine, clock: Clock) -> int:
    return clock.true_ns() - line.now_ns


measure, reader = blocking(module.measure), blocking(module.reader)


class TestMeasuring:
    @pytest.mark.parametrize("commands", [STOCK_COMMANDS, EXTENDED_COMMANDS])
    def test_each_agent_is_read_in_its_own_way(self, line: TimeLine, commands: tuple[str, ...]) -> None:
        guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), commands)
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16)
        extended = commands is EXTENDED_COMMANDS
        asked = {name: len(guest.asked(name)) for name in ("guest-get-clock", "guest-get-time")}
        assert asked == {"guest-get-clock": 4 if extended else 0, "guest-get-time": 0 if extended else 4}
        assert measurement.resolution_ns == (1 if extended else 1_000)
        assert measurement.round_trip_ns == 500_356
        assert measurement.interval.low <= against_monotonic(line, guest.clock) <= measurement.interval.high

    def test_it_goes_on_as_long_as_that_narrows_the_interval(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line)
        ways = iter([1_800_137 - 200_000 * number for number in range(8)] + [400_137] * 92)
        guest.delays = lambda _command: (next(ways), 200_219)
        assert measure(reader(GuestAgent(guest, 5.0)), 100).exchanges == 7 + 3  # the first way was that of guest-info

    @pytest.mark.parametrize(("least", "taken"), [(1, 3), (4, 4)])
    def test_what_they_agree_on_may_suffice_but_not_of_two(self, line: TimeLine, least: int, taken: int) -> None:
        guest = SimulatedGuest(line)
        guest.delays = lambda _command: (5_000_000, 1_500_000)
        read = reader(GuestAgent(guest, 5.0))
        assert measure(read, 16, least, suffices=lambda agreed: agreed.width > 0).exchanges == taken

    @pytest.mark.parametrize(("most", "least", "taken"), [(2, 4, 2), (16, 16, 16), (16, 4, 4)])
    def test_it_takes_as_many_readings_as_it_is_told(self, line: TimeLine, most: int, least: int, taken: int) -> None:
        assert measure(reader(GuestAgent(SimulatedGuest(line), 5.0)), most, least).exchanges == taken

    @pytest.mark.parametrize("step_ns", [-3_600 * SECOND, -MILLISECOND, MILLISECOND, 20 * SECOND])
    @pytest.mark.parametrize("at", [1, 3, 15])
    def test_a_step_between_exchanges_starts_it_again(self, line: TimeLine, step_ns: int, at: int) -> None:
        guest = SimulatedGuest(line)
        answer = guest.handlers["guest-get-time"]

        def step_once(arguments: Any) -> Any:
            if len(guest.asked("guest-get-time")) == at + 1:
                guest.clock.step(step_ns)
            return answer(arguments)

        guest.handlers["guest-get-time"] = step_once
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16, 16)
        assert len(guest.asked("guest-get-time")) == at + 1 + 16
        assert not measurement.coarse
        assert measurement.interval.low <= against_monotonic(line, guest.clock) <= measurement.interval.high
        assert measurement.interval.half_width <= 300 * MICROSECOND

    @pytest.mark.parametrize("phase_ns", range(0, TICK_NS, TICK_NS // 10))
    def test_a_clock_that_stands_still_in_few_quick_readings_is_read_for_longer(
        self, line: TimeLine, phase_ns: int
    ) -> None:
        line.now_ns += phase_ns
        clock = Clock(3 * SECOND, 0, TICK_NS, host=line)
        guest = SimulatedGuest(line, clock, delays=lambda _command: (20 * MICROSECOND, 20 * MICROSECOND))
        measurement = measure(reader(GuestAgent(guest, 5.0)), 4)
        assert measurement.coarse
        assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high

    @pytest.mark.parametrize(
        "value", [-1, 2**63, 10**30, True, False, 1.5, 1e19, -0.0, "1795406706000000000", None, [], {}, [1]]
    )
    @pytest.mark.parametrize("member", ["time", "received", "transmitted"])
    def test_what_is_no_time_is_refused(self, line: TimeLine, value: object, member: str) -> None:
        guest = SimulatedGuest(line, commands=STOCK_COMMANDS if member == "time" else EXTENDED_COMMANDS)
        clock = {"received": 1, "transmitted": 1, member: value}
        guest.handlers["guest-get-time"] = lambda _arguments: Returned(value)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned(clock)
        with pytest.raises(RemoteProtocolError, match="the agent returned"):
            measure(reader(GuestAgent(guest, 5.0)), 1)

    @pytest.mark.parametrize("written", WRITTEN)
    @pytest.mark.parametrize("commands", [STOCK_COMMANDS, EXTENDED_COMMANDS], ids=["stock", "extended"])
    def test_a_clock_written_as_a_double_is_as_fine_as_its_digits(
        self, line: TimeLine, commands: tuple[str, ...], written: str
    ) -> None:
        write, least_ns = WRITTEN[written]
        clock = Clock(3 * SECOND, host=line)
        guest = SimulatedGuest(line, clock, commands, delays=lambda _command: (40_137, 20_219))
        as_integers = dict(guest.handlers)
        for command in ("guest-get-time", "guest-get-clock"):
            guest.handlers[command] = lambda arguments, command=command: rewritten(
                as_integers[command](arguments), write
            )
        for _phase in range(50):
            line.now_ns += 12_345_677
            measurement = measure(reader(GuestAgent(guest, 5.0)), 4)
            assert measurement.interval.low <= against_monotonic(line, clock) <= measurement.interval.high
            assert measurement.resolution_ns >= least_ns
        assert measurement.resolution_ns <= 2 * least_ns + 2 * STOCK_RESOLUTION_NS

    def test_a_reply_may_leave_in_the_nanosecond_in_which_its_request_came(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned(
            {"received": line.now_ns, "transmitted": line.now_ns}
        )
        assert measure(reader(GuestAgent(guest, 5.0)), 1).interval.width >= 0

    def test_but_not_one_whose_clock_was_set_just_then(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        answer = guest.handlers["guest-get-clock"]
        jumps = iter([20 * SECOND])

        def set_meanwhile(arguments: Any) -> Any:
            value = dict(answer(arguments).value)
            value["transmitted"] += next(jumps, 0)
            return Returned(value)

        guest.handlers["guest-get-clock"] = set_meanwhile
        measurement = measure(reader(GuestAgent(guest, 5.0)), 16)
        assert not measurement.coarse

    @pytest.mark.parametrize("tick_ns", [1, 60 * SECOND])
    @pytest.mark.parametrize("jumps_ns", [0, 3_600 * SECOND])
    def test_a_guest_that_is_slow_on_purpose_is_not_asked_on(self, line: TimeLine, tick_ns: int, jumps_ns: int) -> None:
        clock = Clock(3 * SECOND, 0, tick_ns, host=line)
        guest = SimulatedGuest(line, clock, delays=lambda _command: (2_400 * MILLISECOND, 2_500 * MILLISECOND))
        answer = guest.handlers["guest-get-time"]

        def jump(arguments: Any) -> Any:
            clock.step(jumps_ns)
            return answer(arguments)

        guest.handlers["guest-get-time"] = jump
        started_ns = line.now_ns
        measure(reader(GuestAgent(guest, 5.0)), 64, 64, 5 * SECOND)
        assert len(guest.asked("guest-get-time")) == 2
        assert line.now_ns - started_ns < 15 * SECOND

    @pytest.mark.parametrize("value", [0, 2**63 - 1])
    def test_the_ends_of_time_are_taken(self, line: TimeLine, value: int) -> None:
        guest = SimulatedGuest(line)
        guest.handlers["guest-get-time"] = lambda _arguments: Returned(value)
        assert blocking(reader(GuestAgent(guest, 5.0)))().guest_received_ns == value

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            *[(value, "no object") for value in (None, 1, [], "now")],
            ({"received": 2, "transmitted": 1}, "before it was received"),
            ({"received": 0, "transmitted": 10**18}, "for longer than its exchange took"),
            ({"received": 10**18, "transmitted": 10**18 + SECOND}, "for longer than its exchange took"),
        ],
    )
    def test_a_reply_that_contradicts_itself_is_refused(self, line: TimeLine, value: object, said: str) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.handlers["guest-get-clock"] = lambda _arguments: Returned(value)
        with pytest.raises(RemoteProtocolError, match=said):
            measure(reader(GuestAgent(guest, 5.0)), 16)


class TestTheReportedSlew:
    @pytest.mark.parametrize(
        ("members", "slew"),
        [
            ({}, None),
            ({"slewing": None, "slewable": None}, None),
            ({"slewable": True}, None),
            ({"slewing": 0, "slewable": True}, Slew(0, is_possible=True)),
            ({"slewing": -5, "slewable": False}, Slew(-5, is_possible=False)),
            ({"slewing": -5.0, "slewable": None}, Slew(-5, is_possible=False)),
            ({"slewing": 2**63 // 2000}, Slew(2**63 // 2000, is_possible=False)),
        ],
    )
    def test_what_an_agent_reports_of_it(self, line: TimeLine, members: dict[str, object], slew: Slew | None) -> None:
        assert self.measured(line, members).slew == slew

    @pytest.mark.parametrize(
        ("members", "said"),
        [
            ({"slewing": "0"}, "slewing as str"),
            ({"slewing": True}, "slewing as bool"),
            ({"slewing": 0.5}, "slewing as float"),
            ({"slewing": [0]}, "slewing as list"),
            ({"slewing": -(2**63) // 2000 - 1}, "slewing that would take more than 292 years"),
            ({"slewing": 0, "slewable": 1}, "slewable that is not a boolean"),
        ],
    )
    def test_what_is_nothing_of_the_kind_is_refused(
        self, line: TimeLine, members: dict[str, object], said: str
    ) -> None:
        with pytest.raises(RemoteProtocolError, match=said):
            self.measured(line, members)

    @staticmethod
    def measured(line: TimeLine, members: dict[str, object]) -> Measurement:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        guest.slews = False

        def get_clock(arguments: Any) -> Any:
            usual = guest.get_clock(arguments)
            assert isinstance(usual, Returned)
            return Returned({**usual.value, **members})

        guest.handlers["guest-get-clock"] = get_clock
        agent = GuestAgent(guest, 5.0)
        measurement: Measurement = measure(reader(agent), 4)
        return measurement

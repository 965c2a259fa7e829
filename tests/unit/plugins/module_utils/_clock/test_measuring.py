"""Reading a guest's clock through its agent, as often as necessary."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import measuring as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import STOCK_RESOLUTION_NS, Slew
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
    says,
)
from tests.support.blocking import blocking

measure, reader = blocking(module.measure), blocking(module.reader)

READING_COMMANDS = ("guest-get-time", "guest-get-clock")
BY_EACH_AGENT = pytest.mark.parametrize("commands", [STOCK_COMMANDS, EXTENDED_COMMANDS], ids=["stock", "extended"])
WINDOWS_TICK_NS = 15_625_000


def read_of(guest: SimulatedGuest) -> Any:
    return reader(GuestAgent(guest, 5.0))


def holds_the_truth(measurement: Any, guest: SimulatedGuest) -> bool:
    interval = measurement.interval
    return interval.low <= guest.clock.true_ns() - guest.line.now_ns <= interval.high


class TestHowOftenAClockIsRead:
    @BY_EACH_AGENT
    def test_each_agent_is_read_with_its_own_command(self, line: TimeLine, commands: tuple[str, ...]) -> None:
        guest = SimulatedGuest(line, Clock(-20 * SECOND, host=line), commands)
        measurement = measure(read_of(guest), 16)
        extended = commands is EXTENDED_COMMANDS
        assert [len(guest.asked(name)) for name in READING_COMMANDS] == ([0, 4] if extended else [4, 0])
        assert (measurement.resolution_ns, measurement.round_trip_ns) == (1 if extended else 1_000, 500_356)
        assert holds_the_truth(measurement, guest)

    def test_it_is_read_for_as_long_as_that_narrows_the_interval(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line)
        ways = iter([1_800_137 - 200_000 * number for number in range(8)] + [400_137] * 92)
        guest.delays = lambda _command: (next(ways), 200_219)
        assert measure(read_of(guest), 100).exchanges == 7 + 3  # guest-info took the first way

    @pytest.mark.parametrize(
        ("most", "least", "suffices", "taken"),
        [(2, 4, False, 2), (16, 16, False, 16), (16, 4, False, 4), (16, 1, True, 3), (16, 4, True, 4)],
    )
    def test_readings_are_taken_until_they_suffice(
        self, line: TimeLine, most: int, least: int, suffices: bool, taken: int
    ) -> None:
        guest = SimulatedGuest(line, delays=lambda _command: (5_000_000, 1_500_000))
        assert measure(read_of(guest), most, least, suffices=lambda _agreed: suffices).exchanges == taken

    @pytest.mark.parametrize("step_ns", [-3_600 * SECOND, -MILLISECOND, MILLISECOND, 20 * SECOND])
    @pytest.mark.parametrize("at", [1, 3, 15])
    def test_a_step_between_exchanges_restarts_the_measurement(self, line: TimeLine, step_ns: int, at: int) -> None:
        guest = SimulatedGuest(line)
        answer = guest.handlers["guest-get-time"]

        def step_once(arguments: Any) -> Reply:
            if len(guest.asked("guest-get-time")) == at + 1:
                guest.clock.step(step_ns)
            return answer(arguments)

        guest.handlers["guest-get-time"] = step_once
        measurement = measure(read_of(guest), 16, 16)
        assert len(guest.asked("guest-get-time")) == at + 1 + 16
        assert not measurement.coarse
        assert holds_the_truth(measurement, guest)
        assert measurement.interval.half_width <= 300 * MICROSECOND

    def test_a_step_during_an_exchange_restarts_the_measurement(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        jumps = iter([20 * SECOND])

        def set_meanwhile(arguments: Any) -> Reply:
            reply = guest.get_clock(arguments)
            assert isinstance(reply, Returned)
            return Returned({**reply.value, "transmitted": reply.value["transmitted"] + next(jumps, 0)})

        guest.handlers["guest-get-clock"] = set_meanwhile
        assert not measure(read_of(guest), 16).coarse

    @pytest.mark.parametrize("phase_ns", range(0, WINDOWS_TICK_NS, WINDOWS_TICK_NS // 10))
    def test_a_clock_that_does_not_move_in_a_few_quick_readings_is_read_for_longer(
        self, line: TimeLine, phase_ns: int
    ) -> None:
        line.now_ns += phase_ns
        clock = Clock(3 * SECOND, 0, WINDOWS_TICK_NS, host=line)
        guest = SimulatedGuest(line, clock, delays=lambda _command: (20 * MICROSECOND, 20 * MICROSECOND))
        measurement = measure(read_of(guest), 4)
        assert measurement.coarse
        assert holds_the_truth(measurement, guest)

    @pytest.mark.parametrize("tick_ns", [1, 60 * SECOND])
    @pytest.mark.parametrize("jumps_ns", [0, 3_600 * SECOND])
    def test_a_guest_that_is_slow_on_purpose_is_not_read_on(self, line: TimeLine, tick_ns: int, jumps_ns: int) -> None:
        clock = Clock(3 * SECOND, 0, tick_ns, host=line)
        guest = SimulatedGuest(line, clock)

        def slow(_command: str) -> tuple[int, int]:
            clock.step(jumps_ns)
            return 2_400 * MILLISECOND, 2_500 * MILLISECOND

        guest.delays = slow
        measure(read_of(guest), 64, 64, 5 * SECOND)
        assert len(guest.asked("guest-get-time")) == 2


# Formats in which agents write nanoseconds that they keep as a double, and the distance between such numbers.
@pytest.mark.parametrize(
    ("written", "least_ns"),
    [(".16e", 256), (".1f", 256), ("", 256), (".16g", 1_000), (".15g", 10_000), (".10g", 1_000_000_000)],
)
@BY_EACH_AGENT
def test_a_clock_written_as_a_double_is_as_fine_as_its_digits(
    line: TimeLine, commands: tuple[str, ...], written: str, least_ns: int
) -> None:
    guest = SimulatedGuest(line, Clock(3 * SECOND, host=line), commands, delays=lambda _command: (40_137, 20_219))
    as_integers = dict(guest.handlers)

    def rewritten(value: Any) -> Any:
        if isinstance(value, int):
            return decode(format(float(value), written).encode())
        return {**value, **{name: rewritten(value[name]) for name in ("received", "transmitted")}}

    for command in READING_COMMANDS:
        guest.handlers[command] = lambda arguments, command=command: Returned(
            rewritten(as_integers[command](arguments).value)
        )
    for _phase in range(50):
        line.now_ns += 12_345_677
        measurement = measure(read_of(guest), 4)
        assert holds_the_truth(measurement, guest)
        assert measurement.resolution_ns >= least_ns
    assert measurement.resolution_ns <= 2 * least_ns + 2 * STOCK_RESOLUTION_NS


CLOCK: dict[str, object] = {"received": 1, "transmitted": 1}


class TestReplies:
    @pytest.mark.parametrize("value", [-1, 2**63, True, 1.5, 1e19, "1795406706000000000", None, []])
    @pytest.mark.parametrize("member", ["time", "received", "transmitted"])
    def test_a_value_that_is_not_a_time_is_rejected(self, line: TimeLine, value: object, member: str) -> None:
        guest = SimulatedGuest(line, commands=STOCK_COMMANDS if member == "time" else EXTENDED_COMMANDS)
        says(guest, "guest-get-time", value)
        says(guest, "guest-get-clock", {**CLOCK, member: value})
        with pytest.raises(RemoteProtocolError, match="the agent returned"):
            measure(read_of(guest), 1)

    @pytest.mark.parametrize("value", [0, 2**63 - 1])
    def test_the_earliest_and_latest_times_are_accepted(self, line: TimeLine, value: int) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        says(guest, "guest-get-clock", {"received": value, "transmitted": value})
        reading = blocking(read_of(guest))()
        assert (reading.guest_received_ns, reading.guest_transmitted_ns) == (value, value)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            *((value, "not an object") for value in (None, 1, [], "now")),
            ({"received": 2, "transmitted": 1}, "is before its received"),
            ({"received": 0, "transmitted": 10**18}, "processing time longer than the exchange"),
            ({"received": 10**18, "transmitted": 10**18 + SECOND}, "processing time longer than the exchange"),
            ({**CLOCK, "slewing": "0"}, "slewing as str"),
            ({**CLOCK, "slewing": 0.5}, "slewing as float"),
            ({**CLOCK, "slewing": -(2**63) // 2000 - 1}, "slewing that would take more than 292 years"),
            ({**CLOCK, "slewing": 0, "slewable": 1}, "slewable that is not a boolean"),
        ],
    )
    def test_an_ill_formed_or_contradictory_reply_is_rejected(self, line: TimeLine, value: object, words: str) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        says(guest, "guest-get-clock", value)
        with pytest.raises(RemoteProtocolError, match=words):
            measure(read_of(guest), 16)

    @pytest.mark.parametrize(
        ("members", "slew"),
        [
            ({}, None),
            ({"slewing": None, "slewable": None}, None),
            ({"slewable": True}, None),
            ({"slewing": 0, "slewable": True}, Slew(0, is_possible=True)),
            ({"slewing": -5.0, "slewable": None}, Slew(-5, is_possible=False)),
            ({"slewing": 2**63 // 2000}, Slew(2**63 // 2000, is_possible=False)),
        ],
    )
    def test_a_slew_is_reported_as_the_agent_reports_it(
        self, line: TimeLine, members: dict[str, object], slew: Slew | None
    ) -> None:
        guest = SimulatedGuest(line, commands=EXTENDED_COMMANDS)
        says(guest, "guest-get-clock", {**CLOCK, **members})
        assert blocking(read_of(guest))().slew == slew

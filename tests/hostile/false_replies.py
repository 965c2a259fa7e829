"""False but well-formed replies of a guest about its clock, its agent and the result of a step.

Each makes a :data:`~tests.hostile.agent.Play` for a guest with this clock, which answers all other requests honestly.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.fakes.clock import Clock
from tests.fakes.faults import Pause, Piece
from tests.fakes.kinds import MILLISECOND_NS, SECOND_NS
from tests.hostile.agent import BEHIND_NS, READS, STEPS, Asked, Play, encoded, honestly

HOUR_NS = 3600 * SECOND_NS
YEAR_NS = 365 * 24 * HOUR_NS

# Two stamps, for receiving a request and for sending its reply.
Stamps = tuple[Any, Any]
FalseReply = Callable[[Clock], Play]


def _on(commands: Iterable[str], act: Callable[[Clock, Asked], Iterable[Piece]]) -> FalseReply:
    """Answer these commands by ``act``."""
    commands = tuple(commands)

    def start(clock: Clock) -> Play:
        return lambda asked: act(clock, asked) if asked.command in commands else honestly(asked)

    return start


def _returning(value: Any) -> bytes:
    return encoded({"return": value})


def _stamped(stamps: Callable[[Clock, int], Stamps]) -> FalseReply:
    """``stamps`` returns the stamps of the nth reading. The stock agent, which reports one, sends the second."""
    return _on(READS, lambda clock, asked: [_reading(asked, *stamps(clock, asked.nth))])


def _reading(asked: Asked, received: Any, transmitted: Any) -> bytes:
    if asked.command == "guest-get-time":
        return _returning(transmitted)
    return _returning({"received": received, "transmitted": transmitted, "synchronized": True, "max-error": 0})


def _constant(value: Any) -> FalseReply:
    return _stamped(lambda _clock, _nth: (value, value))


def _moved(by_ns: Callable[[int], int]) -> FalseReply:
    """Report the true time, moved by so much at the nth reading."""
    return _stamped(lambda clock, nth: (clock.read() + by_ns(nth), clock.read() + by_ns(nth)))


def _around(before_ns: int, after_ns: int) -> FalseReply:
    """Report that it received so long before, and transmitted so long after the true time."""
    return _stamped(lambda clock, _nth: (clock.read() - before_ns, clock.read() + after_ns))


def _slow_and_sure(clock: Clock, asked: Asked) -> Iterable[Piece]:
    """Take 5 ms and claim to have worked for almost all of them, so that the interval is as narrow as possible."""
    received_ns = clock.read()
    yield Pause(0.005)
    now_ns = clock.read()
    yield _reading(asked, received_ns - 50_000, now_ns if asked.command == "guest-get-time" else now_ns + 50_000)


def _random(clock: Clock) -> Play:
    dice = random.Random(5)
    return _moved(lambda _nth: dice.randint(-HOUR_NS, HOUR_NS))(clock)


_LATEST = 2**63 - 1

CLOCK: Mapping[str, FalseReply] = {
    "it runs backwards": _moved(lambda nth: -nth * SECOND_NS),
    "it jumps ahead at each reading": _moved(lambda nth: nth * HOUR_NS),
    "it jumps to and fro": _moved(lambda nth: (-1) ** nth * HOUR_NS),
    "it jumps once": _moved(lambda nth: HOUR_NS if nth > 2 else 0),
    "it is right at the first reading only": _moved(lambda nth: 3 * SECOND_NS if nth == 0 else 0),
    "it creeps away": _moved(lambda nth: nth * MILLISECOND_NS),
    "it is random": _random,
    "it stands still": _constant(1_795_406_706_123_456_789),
    "it shows 1970": _constant(0),
    "it shows 1969": _constant(-1),
    "it shows the year 1678": _constant(-(2**63)),
    "it shows 2262": _constant(_LATEST),
    "it shows 2263": _constant(2**63),
    "it shows the year 10^12": _constant(10**12 * YEAR_NS),
    "it shows the year minus 10^12": _constant(-(10**12) * YEAR_NS),
    "it shows a fraction": _constant(1.5),
    "it shows a second before the end of time": _moved(lambda nth: _LATEST - 1_900_000_000 * SECOND_NS - nth),
    "it shows true": _constant(True),
    "it shows a string": _constant("1795406706123456789"),
    "it shows null": _constant(None),
    "it shows a list": _constant([1_795_406_706_123_456_789]),
    "it shows an object": _constant({"seconds": 5}),
    "transmitted before received": _around(0, -MILLISECOND_NS),
    "busy for longer than the exchange took": _around(SECOND_NS, SECOND_NS),
    "received before it was sent": _around(50 * MILLISECOND_NS, 0),
    "transmitted after its arrival": _around(0, 50 * MILLISECOND_NS),
    "busy from 1970 to 2262": _stamped(lambda _clock, _nth: (0, _LATEST)),
    "busy since an hour ago": _around(HOUR_NS, 0),
    "empty by a nanosecond": _around(MILLISECOND_NS, MILLISECOND_NS),
    "as narrow as possible": _on(READS, _slow_and_sure),
    "one stamp only": _stamped(lambda clock, _nth: (clock.read(), None)),
    "stamps of two types": _stamped(lambda clock, _nth: (str(clock.read()), clock.read())),
}


# ----------------------------------------------------------------------------------------------------------- the steps


def _done_by(share: Callable[[Clock, int], int]) -> FalseReply:
    """Step the clock by this number of nanoseconds in place of the requested one."""

    def act(clock: Clock, asked: Asked) -> Iterable[Piece]:
        before_ns = clock.offset_ns()
        answer = asked.answer()
        by_ns = clock.offset_ns() - before_ns
        clock.step(share(clock, by_ns) - by_ns)
        return [answer]

    return _on(STEPS, act)


def _done(reply: Any) -> FalseReply:
    """Do the step and send this reply."""
    return _on(STEPS, lambda _clock, asked: [asked.answer() and encoded(reply)])


def _undone_at_reading(nth: int) -> FalseReply:
    """Do the step, and undo it at the nth reading after it."""

    def start(clock: Clock) -> Play:
        readings = [0]

        def play(asked: Asked) -> Iterable[Piece]:
            if asked.command in STEPS:
                readings[0] = 1
            elif asked.command in READS and readings[0]:
                readings[0] += 1
                if readings[0] == nth + 2:
                    clock.step(BEHIND_NS)
            yield asked.answer()

        return play

    return start


_FAILED = {"error": {"class": "GenericError", "desc": "hwclock failed to set hardware clock to system time"}}

STEP: Mapping[str, FalseReply] = {
    "never done": _done_by(lambda _clock, _by_ns: 0),
    "done twice": _done_by(lambda _clock, by_ns: 2 * by_ns),
    "done by half": _done_by(lambda _clock, by_ns: by_ns // 2),
    "done the other way": _done_by(lambda _clock, by_ns: -by_ns),
    "done to the end of time": _done_by(lambda clock, _by_ns: _LATEST - clock.read() - 60 * SECOND_NS),
    "done late": _on(STEPS, lambda _clock, asked: [Pause(0.3), asked.answer()]),
    "done, and reported as failed": _done(_FAILED),
    "not done, and reported as failed": _on(STEPS, lambda _clock, _asked: [encoded(_FAILED)]),
    "done, and reported as unknown": _done(
        {"error": {"class": "CommandNotFound", "desc": "The command has not been found"}}
    ),
    "done, and a list is returned": _done({"return": [1, 2]}),
    "done, and null is returned": _done({"return": None}),
    "done, and an rtc-error that is an object": _done({"return": {"rtc-error": {"a": "b"}}}),
    "done, and an rtc-error of fifty thousand escapes": _done(
        {"return": {"before": 1, "after": "x", "rtc-error": "\x1b[31m" * 10_000}}
    ),
    "undone right after": _undone_at_reading(1),
    "undone in the middle of the verification": _undone_at_reading(2),
}


# After these, the measurement is no longer true.
UNTRUE_STEPS = frozenset(("undone right after", "undone in the middle of the verification"))


# ------------------------------------------------------------------------------------------------------- the abilities


def _reporting(info: Callable[[dict[str, Any], int], Any]) -> FalseReply:
    """``info`` changes the nth reply to guest-info."""
    return _on(
        ["guest-info"], lambda _clock, asked: [_returning(info(json.loads(asked.answer())["return"], asked.nth))]
    )


def _with(**members: Any) -> FalseReply:
    return _reporting(lambda info, _nth: {**info, **members})


def _without(member: str) -> FalseReply:
    return _reporting(lambda info, _nth: {name: value for name, value in info.items() if name != member})


def _with_each_command(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> FalseReply:
    return _reporting(lambda info, _nth: {**info, "supported_commands": change(info["supported_commands"])})


def _each_command(**state: Any) -> FalseReply:
    return _with_each_command(lambda commands: [{**command, **state} for command in commands])


def _with_commands(count: int, name: Callable[[int], str]) -> FalseReply:
    state = {"enabled": True, "success-response": True}
    return _with_each_command(lambda known: [*known, *({"name": name(number), **state} for number in range(count))])


def _different_each_time(info: dict[str, Any], nth: int) -> Any:
    commands = info["supported_commands"]
    return {"version": f"{nth}.0", "supported_commands": commands[nth % 3 :: 3 - nth % 2]}


INFO: Mapping[str, FalseReply] = {
    "a hundred thousand commands": _with_commands(100_000, lambda number: f"guest-{number}"),
    "five hundred commands": _with_commands(500, lambda number: f"guest-{number}"),
    "the same command five hundred times": _with_commands(500, lambda _number: "guest-ping"),
    "a name of sixty thousand characters": _with_commands(1, lambda _number: "x" * 60_000),
    "names that cannot be shown": _with_commands(50, lambda number: f"\x1b[{number}m\u202e\n"),
    "an empty name": _with_commands(1, lambda _number: ""),
    "no commands": _with(supported_commands=[]),
    "no list of commands": _without("supported_commands"),
    "no version": _without("version"),
    "a version of fifty thousand escapes": _with(version="\x1b" * 9_000),
    "another one at each request": _reporting(_different_each_time),
    "no command ever answers": _each_command(**{"success-response": False}),
    "every command is disabled": _each_command(enabled=False),
    "states that are strings": _each_command(enabled="yes", **{"success-response": "no"}),
    "a state that is null": _each_command(enabled=None),
    "only the details of a command": _with(supported_commands=[{"name": "guest-get-command-info", "enabled": True}]),
}


# ----------------------------------------------------------------------------------------------------------- the facts

# Commands that return a list.
_LISTS = ("guest-get-vcpus", "guest-get-users", "guest-get-cpustats", "guest-network-get-route")


def _facts(text: Callable[[], str]) -> FalseReply:
    """Return the same JSON text from all commands that return a list. It is valid and costly for its length."""
    return _on(_LISTS, lambda _clock, _asked: [b'{"return": ' + text().encode() + b"}\n"])


DENSE: Mapping[str, FalseReply] = {
    "thirty thousand objects": _facts(lambda: "[" + '{"a":0},' * 30_000 + "{}]"),
    "sixty thousand objects": _facts(lambda: "[" + '{"a":0},' * 60_000 + "{}]"),
    "a hundred and thirty thousand objects": _facts(lambda: "[" + '{"a":0},' * 130_000 + "{}]"),
    "sixty thousand lists": _facts(lambda: '[{"a":[' + "[]," * 60_000 + "0]}]"),
    "a hundred and twenty thousand lists": _facts(lambda: '[{"a":[' + "[]," * 120_000 + "0]}]"),
    "a hundred thousand members": _facts(
        lambda: "[{" + ",".join(f'"a{number:x}":0' for number in range(100_000)) + "}]"
    ),
    "two hundred thousand strings": _facts(
        lambda: '[{"a":[' + ",".join(f'"{number:x}"' for number in range(200_000)) + "]}]"
    ),
    "a string of two million characters": _facts(lambda: '[{"user":"' + "x" * 2_000_000 + '"}]'),
    "strings of four thousand characters that cannot be shown": _facts(
        lambda: "[" + ",".join(['{"user":"' + "\\u202e" * 4_000 + '"}'] * 80) + "]"
    ),
}

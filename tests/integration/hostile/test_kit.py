"""The malicious agents themselves: that they do what they are for, and run in a guest."""

from __future__ import annotations

import ast
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile import guest as kit
from tests.hostile import payloads
from tests.hostile.agent import Action, Asked, HangUp, HostileAgent, Requests, Send, honestly
from tests.hostile.attacks import ATTACKS
from tests.hostile.checks import mistyped
from tests.hostile.guest import EXTENDED, STOCK, Guest
from tests.hostile.in_guest import SHIPPED
from tests.hostile.wrong_types import HONEST, STRANGERS, swaps
from tests.support.collection import ROOT

_DIRECTORY = ROOT / "tests" / "hostile"
_OLDEST = (3, 9)  # Debian 11's


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), feature_version=_OLDEST)):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield node.level, name


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_into_a_guest_needs_nothing_but_itself(name: str) -> None:
    for level, imported in _imports(_DIRECTORY / f"{name}.py"):
        if level:
            assert imported in SHIPPED
        else:
            assert imported.partition(".")[0] in sys.stdlib_module_names


def test_requests_are_found_however_they_are_cut() -> None:
    first, second = b'{"execute": "a", "arguments": {"id": 5}}', b'{"execute": "b"}'
    stream = b'{"execute": "lost"\xff' + first + b"\n" + second
    expected = [{"execute": "a", "arguments": {"id": 5}}, {"execute": "b"}]
    for cut in range(len(stream) + 1):
        requests = Requests()
        assert [*requests.feed(stream[:cut]), *requests.feed(stream[cut:])] == expected


def _acted(agent: HostileAgent, command: bytes) -> list[Action]:
    actions = agent.received(b'{"execute": "%b"}' % command)
    return list(itertools.islice(actions, 20))


def test_an_honest_agent_answers_and_knows_its_commands() -> None:
    stock, extended = HostileAgent(Guest(STOCK), honestly), HostileAgent(Guest(EXTENDED), honestly)
    assert _acted(stock, b"guest-ping") == [Send(b'{"return": {}}\n')]
    (refusal,) = _acted(stock, b"guest-get-clock")
    assert isinstance(refusal, Send)
    assert b"CommandNotFound" in refusal.data
    (clock,) = _acted(extended, b"guest-get-clock")
    assert isinstance(clock, Send)
    assert b"transmitted" in clock.data


def test_a_delta_moves_an_honest_clock() -> None:
    guest = Guest(EXTENDED, offset_ns=-5_000_000_000)
    guest.returned("guest-update-time", {"seconds": 4, "nanoseconds": 5, "relative": True})
    assert guest.offset_ns == -999_999_995


def test_every_attack_can_be_begun() -> None:
    assert all(attack.agent().asked == [] for attack in ATTACKS)


def test_no_two_attacks_have_the_same_name() -> None:
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("name", {**payloads.ENDLESS, **payloads.MALFORMED, **payloads.HUGE, **payloads.REFUSING})
def test_a_payload_is_not_the_honest_answer(name: str) -> None:
    play = {**payloads.ENDLESS, **payloads.MALFORMED, **payloads.HUGE, **payloads.REFUSING}[name]
    asked = Asked("guest-get-osinfo", {}, 0, 0, lambda: b"honest")
    sent = [action.data for action in itertools.islice(play(asked), 3) if isinstance(action, Send)]
    assert any(sent)
    assert b"honest" not in sent


def test_an_endless_payload_does_not_end() -> None:
    asked = Asked("guest-get-osinfo", {}, 0, 0, lambda: b"honest")
    for name, play in payloads.ENDLESS.items():
        assert len(list(itertools.islice(play(asked), 5_000))) == 5_000, name


def test_a_reply_is_cut_where_it_is_meant_to_be() -> None:
    asked = Asked("guest-ping", {}, 0, 0, lambda: b'{"return": {}}\n')
    assert list(payloads.cut_after(3)(asked)) == [Send(b'{"r'), HangUp()]


def test_every_value_is_swapped_for_every_stranger() -> None:
    assert len(list(swaps("guest-get-timezone"))) == 3 * len(STRANGERS)
    assert {swap.path for swap in swaps("guest-get-users")} >= {(), (0,), (0, "user"), (0, "login-time")}
    for swap in itertools.chain.from_iterable(map(swaps, HONEST)):
        value = swap.value
        for step in swap.path:
            value = value[step]
        assert value is swap.stranger


@pytest.mark.parametrize(
    ("value", "honest"),
    [
        ({"a": 1}, {"a": "1"}),
        ({"a": True}, {"a": 1}),
        ({"a": 1.0}, {"a": 1}),
        ({"a": None}, {"a": 1}),
        ({"a": []}, {"a": {}}),
        ({"a": [{"b": 1}, {"b": "x"}]}, {"a": [{"b": 2}]}),
        ([], {}),
    ],
)
def test_a_wrong_type_is_found(value: object, honest: object) -> None:
    assert list(mistyped(value, honest))


def test_what_is_right_is_left_alone() -> None:
    honest = {"login_time": 1.5, "list": [{"b": 2}], "offset_after_ns": 5}
    assert list(mistyped({"login_time": 1, "list": [], "more": "x", "offset_after_ns": None}, honest)) == []


def test_a_guests_clock_is_as_far_off_as_is_said_even_where_a_reading_took_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamps = iter([0, 9_000_000, *range(9_000_001, 9_000_100)])

    class Clocks:
        monotonic_ns = staticmethod(lambda: next(stamps))
        time_ns = staticmethod(lambda: 10**18 + next(stamps))

    monkeypatch.setattr(kit, "time", Clocks)
    assert abs(Guest().base_ns - 10**18) <= 1

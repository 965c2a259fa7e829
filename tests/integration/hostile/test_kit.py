"""The malicious agents themselves: that they do what they are for, and run in a guest."""

from __future__ import annotations

import ast
import itertools
import sys

import pytest

from tests.hostile import guest as kit
from tests.hostile import payloads
from tests.hostile.agent import Asked, Send
from tests.hostile.attacks import ATTACKS
from tests.hostile.checks import mistyped
from tests.hostile.guest import Guest
from tests.hostile.in_guest import SHIPPED
from tests.support.collection import ROOT

_OLDEST = (3, 9)  # Debian 11's


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shipped_into_a_guest_needs_nothing_but_itself(name: str) -> None:
    source = (ROOT / "tests" / "hostile" / f"{name}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source, feature_version=_OLDEST)):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert {node.module} if node.module else {alias.name for alias in node.names} <= set(SHIPPED)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_no_two_attacks_have_the_same_name() -> None:
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS)


def test_a_payload_is_not_the_honest_answer() -> None:
    plays = {**payloads.ENDLESS, **payloads.MALFORMED, **payloads.HUGE, **payloads.REFUSING}
    asked = Asked("guest-get-osinfo", {}, 0, 0, lambda: b"honest")
    for name, play in plays.items():
        sent = [action.data for action in itertools.islice(play(asked), 3) if isinstance(action, Send)]
        assert any(sent), name
        assert b"honest" not in sent, name
        assert name not in payloads.ENDLESS or len(list(itertools.islice(play(asked), 5_000))) == 5_000


@pytest.mark.parametrize(
    ("value", "honest", "is_wrong"),
    [
        ({"a": 1}, {"a": "1"}, True),
        ({"a": True}, {"a": 1}, True),
        ({"a": 1.0}, {"a": 1}, True),
        ({"a": None}, {"a": 1}, True),
        ({"a": []}, {"a": {}}, True),
        ({"a": [{"b": 1}, {"b": "x"}]}, {"a": [{"b": 2}]}, True),
        ([], {}, True),
        ({"login_time": 1, "list": [], "more": "x"}, {"login_time": 1.5, "list": [{"b": 2}]}, False),
        ({"offset_after_ns": None}, {"offset_after_ns": 5}, False),
    ],
)
def test_a_wrong_type_is_found_and_a_right_one_is_not(value: object, honest: object, is_wrong: bool) -> None:
    assert bool(list(mistyped(value, honest))) is is_wrong


def test_a_guests_clock_is_as_far_off_as_is_said_even_where_a_reading_took_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stamps = iter([0, 9_000_000, *range(9_000_001, 9_000_100)])

    class Clocks:
        monotonic_ns = staticmethod(lambda: next(stamps))
        time_ns = staticmethod(lambda: 10**18 + next(stamps))

    monkeypatch.setattr(kit, "time", Clocks)
    assert abs(Guest().base_ns - 10**18) <= 1

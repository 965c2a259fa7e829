"""The malicious agents themselves: that they do what they are for, and run in a guest."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.faults import Forever
from tests.hostile import payloads
from tests.hostile.agent import Asked
from tests.hostile.attacks import ATTACKS
from tests.hostile.checks import mistyped
from tests.hostile.in_guest import shipped

_OLDEST = (3, 9)  # Debian 11's


def test_what_is_shipped_into_a_guest_needs_nothing_but_python(tmp_path: Path) -> None:
    for name, content in shipped():
        ast.parse(content, feature_version=_OLDEST)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import tests.hostile.in_guest"
    subprocess.run([sys.executable, "-I", "-S", "-c", program, tmp_path], cwd="/", check=True)


def test_no_two_attacks_have_the_same_name() -> None:
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS)


def test_a_payload_is_not_the_honest_answer() -> None:
    plays = {**payloads.ENDLESS, **payloads.MALFORMED, **payloads.HUGE, **payloads.REFUSING}
    asked = Asked("guest-get-osinfo", {}, 0, 0, lambda: b"honest")
    for name, play in plays.items():
        sent = [piece.data if isinstance(piece, Forever) else piece for piece in play(asked)]
        assert any(sent), name
        assert b"honest" not in sent, name


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

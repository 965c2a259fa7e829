"""Tests of the malicious agents themselves: they are malicious, and can run in a guest."""

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


def test_the_files_for_a_guest_only_need_python(tmp_path: Path) -> None:
    for name, content in shipped():
        ast.parse(content, feature_version=_OLDEST)
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import tests.hostile.in_guest"
    subprocess.run([sys.executable, "-I", "-S", "-c", program, tmp_path], cwd="/", check=True)


def test_attacks_have_unique_names() -> None:
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS)


def test_a_payload_does_not_contain_the_honest_answer() -> None:
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
def test_only_wrong_types_are_reported(value: object, honest: object, is_wrong: bool) -> None:
    assert bool(list(mistyped(value, honest))) is is_wrong

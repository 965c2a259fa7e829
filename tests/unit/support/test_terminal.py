from __future__ import annotations

import os
import sys

import pytest

from tests.support.terminal import commands_in, run


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x9b2J", "a\rb", "\0", "\b", "\t", "\x7f", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff"]
)
def test_what_a_terminal_would_obey_or_hide_is_found(text: str) -> None:
    assert len(commands_in(f"before {text} after")) == 1


@pytest.mark.parametrize("text", ["", "one\ntwo\n", "grün 東京 …", "a\u00a0b", r"\x1b[2J"])
def test_text_is_left_alone(text: str) -> None:
    assert commands_in(text) == []


def test_a_program_has_a_terminal_and_what_it_sends_is_not_changed() -> None:
    program = "import sys; print(sys.stdout.isatty(), sys.stderr.isatty(), end='\\r\\n\\x1b[m'); sys.exit(3)"
    assert run([sys.executable, "-c", program], os.environ) == (3, "True True\r\n\x1b[m")

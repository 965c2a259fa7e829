from __future__ import annotations

import pytest

from tests.support.terminal import commands_in


@pytest.mark.parametrize(
    "text", ["\x1b[2J", "\x9b2J", "a\rb", "\0", "\b", "\t", "\x7f", "\u202e", "\u2066", "\u200b", "\u2028", "\ufeff"]
)
def test_control_and_invisible_characters_are_found(text: str) -> None:
    assert len(commands_in(f"before {text} after")) == 1


@pytest.mark.parametrize("text", ["", "one\ntwo\n", "grün 東京 …", "a\u00a0b", r"\x1b[2J"])
def test_plain_text_has_none(text: str) -> None:
    assert commands_in(text) == []

"""The schemas of the page on the protocol say what the catalogue of commands says."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOGUE

from tests.docs.examples import Check, Example, to_check

SCHEMAS = to_check(Check.SCHEMA)
ALTERNATES = {"GuestNanoseconds": "int | str"}


def definitions(example: Example) -> list[dict[str, Any]]:
    """QAPI's language is that of Python's literals, but for what follows each other."""
    return [ast.literal_eval(part) for part in re.split(r"\n\n", example.text)]


def test_there_is_one_for_each_of_the_four_commands() -> None:
    assert {definitions(example)[-1]["command"] for example in SCHEMAS} == {
        "guest-update-time",
        "guest-get-clock",
        "guest-get-command-info",
        "guest-info",
    }


@pytest.mark.parametrize("example", SCHEMAS, ids=lambda example: example.caption)
def test_the_command_takes_and_returns_what_the_catalogue_says(example: Example) -> None:
    command = definitions(example)[-1]
    known = CATALOGUE[command["command"]]
    arguments = {
        f"*{argument.name}" if argument.optional else argument.name: argument.type for argument in known.arguments
    }
    assert {name: ALTERNATES.get(kind, kind) for name, kind in command.get("data", {}).items()} == arguments
    assert command["returns"] == known.returns


@pytest.mark.parametrize("example", SCHEMAS, ids=lambda example: example.caption)
def test_every_type_that_is_used_is_defined(example: Example) -> None:
    defined = {name for each in definitions(example) for kind in ("struct", "alternate") if (name := each.get(kind))}
    used = set(re.findall(r"'(Guest\w+)'", example.text))
    assert used <= defined

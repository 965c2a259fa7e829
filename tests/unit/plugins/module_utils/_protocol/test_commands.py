from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import (
    CATALOG,
    FROZEN_ALLOWED,
    Argument,
    Command,
    answers_on_success,
    parse_commands,
)


def test_the_stock_agents_commands_come_first_and_the_extended_ones_last() -> None:
    origins = {name: command.origin for name, command in CATALOG.items()}
    assert list(origins.values()) == ["stock"] * 44 + ["extended"] * 3
    assert list(origins)[44:] == ["guest-update-time", "guest-get-clock", "guest-get-command-info"]


def test_four_commands_send_no_reply_on_success_and_unknown_ones_do() -> None:
    silent = {name for name in CATALOG if not answers_on_success(name)}
    assert silent == {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"}
    assert {CATALOG[name].returns for name in silent} == {"none"}
    assert answers_on_success("guest-from-the-future")


def test_a_frozen_agent_allows_stock_commands_that_set_no_clock() -> None:
    assert {CATALOG[name].origin for name in FROZEN_ALLOWED} == {"stock"}
    assert not {name for name in FROZEN_ALLOWED if "time" in name or "clock" in name}


def test_a_description_is_one_sentence() -> None:
    for description in (command.description for command in CATALOG.values()):
        assert description[0].isupper(), description
        assert description.find(". ") == -1, description
        assert description.endswith("."), description


def test_the_arguments_of_a_command_have_different_names() -> None:
    for command in CATALOG.values():
        assert len({argument.name for argument in command.arguments}) == len(command.arguments), command.name


@pytest.mark.parametrize("arguments", [" ", "path:", "Path: str", "path: [str", "path: str,", "path: str, "])
def test_an_argument_in_another_notation_is_refused(arguments: str) -> None:
    with pytest.raises(ValueError, match="is not an argument such as"):
        list(parse_commands(f"guest-one({arguments}) -> int\n    1.0: Does it.", "stock"))


def test_a_command_is_parsed_from_two_lines() -> None:
    table = """
guest-one(a-b: [GuestThing], *c: int | str) -> [GuestThing], silent
    2.10, if HAVE_IT or CONFIG_X: Does it.
guest-two() -> none
    0.15.0: Does nothing.
"""
    arguments = (Argument("a-b", "[GuestThing]"), Argument("c", "int | str", optional=True))
    assert list(parse_commands(table, "extended")) == [
        Command("guest-one", "2.10", arguments, "[GuestThing]", "Does it.", False, "HAVE_IT or CONFIG_X", "extended"),
        Command("guest-two", "0.15.0", (), "none", "Does nothing.", origin="extended"),
    ]


@pytest.mark.parametrize(
    "entry", ["guest-one() -> int", "guest-one -> int\n    1.0: It.", "guest-one() -> int, loud\n    1.0: It."]
)
def test_a_command_in_another_notation_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a command"):
        list(parse_commands(entry, "stock"))

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import (
    CATALOGUE,
    FROZEN_ALLOWED,
    NO_DATA,
    Argument,
    answers_on_success,
    parse_arguments,
)

STOCK = {name: command for name, command in CATALOGUE.items() if command.origin == "stock"}
EXTENDED = {name: command for name, command in CATALOGUE.items() if command.origin == "extended"}
WITHOUT_SUCCESS_RESPONSE = {"guest-shutdown", "guest-suspend-disk", "guest-suspend-ram", "guest-suspend-hybrid"}


def test_the_stock_agent_has_44_commands() -> None:
    assert len(STOCK) == 44


def test_a_linux_build_without_libudev_has_42_of_them() -> None:
    absent = {
        name
        for name, command in STOCK.items()
        if command.condition and set(command.condition.split(" or ")) <= {"CONFIG_WIN32", "CONFIG_LIBUDEV"}
    }
    assert absent == {"guest-get-devices", "guest-get-disks"}
    assert len(STOCK) - len(absent) == 42


def test_the_extended_agent_adds_three_names_and_completes_guest_info() -> None:
    assert list(EXTENDED) == ["guest-update-time", "guest-get-clock", "guest-get-command-info"]
    assert CATALOGUE["guest-info"].origin == "stock"
    assert len(CATALOGUE) == 47


def test_order_is_the_schemas_and_then_ours() -> None:
    names = list(CATALOGUE)
    assert (names[0], names[43]) == ("guest-sync-delimited", "guest-network-get-route")
    assert names[44:] == list(EXTENDED)


def test_keys_are_the_commands_names() -> None:
    assert [command.name for command in CATALOGUE.values()] == list(CATALOGUE)


def test_exactly_four_commands_do_not_answer_on_success() -> None:
    assert {name for name in CATALOGUE if not answers_on_success(name)} == WITHOUT_SUCCESS_RESPONSE
    assert {CATALOGUE[name].returns for name in WITHOUT_SUCCESS_RESPONSE} == {NO_DATA}


def test_a_command_unknown_here_answers_on_success() -> None:
    assert answers_on_success("guest-from-the-future") is True


def test_frozen_agents_allow_six_stock_commands() -> None:
    assert len(FROZEN_ALLOWED) == 6
    assert set(STOCK) >= FROZEN_ALLOWED
    assert not {name for name in FROZEN_ALLOWED if "time" in name or "clock" in name}


@pytest.mark.parametrize(
    ("name", "since", "returns", "arguments"),
    [
        ("guest-ping", "0.15.0", "none", ()),
        ("guest-set-time", "1.5", "none", (Argument("time", "int", optional=True),)),
        ("guest-file-open", "0.15.0", "int", (Argument("path", "str"), Argument("mode", "str", optional=True))),
        (
            "guest-file-write",
            "0.15.0",
            "GuestFileWrite",
            (Argument("handle", "int"), Argument("buf-b64", "str"), Argument("count", "int", optional=True)),
        ),
        ("guest-fsfreeze-freeze-list", "2.2", "int", (Argument("mountpoints", "[str]", optional=True),)),
        ("guest-get-load", "10.0", "GuestLoadAverage", ()),
        (
            "guest-update-time",
            "1.0.0",
            "GuestUpdateTime",
            (
                Argument("seconds", "int"),
                Argument("nanoseconds", "int | str", optional=True),
                Argument("relative", "bool", optional=True),
                Argument("slew", "bool", optional=True),
                Argument("rtc", "bool", optional=True),
            ),
        ),
        ("guest-get-command-info", "1.0.0", "GuestCommandInfo", (Argument("name", "str"),)),
    ],
)
def test_entries(name: str, since: str, returns: str, arguments: tuple[Argument, ...]) -> None:
    command = CATALOGUE[name]
    assert (command.since, command.returns, command.arguments) == (since, returns, arguments)


@pytest.mark.parametrize("name", list(CATALOGUE))
def test_descriptions_are_one_sentence(name: str) -> None:
    description = CATALOGUE[name].description
    assert description[0].isupper()
    assert description.endswith(".")
    assert ". " not in description


def test_notation() -> None:
    assert parse_arguments("") == ()
    assert parse_arguments("a-b: [GuestThing], *c: int | str") == (
        Argument("a-b", "[GuestThing]", optional=False),
        Argument("c", "int | str", optional=True),
    )


@pytest.mark.parametrize(
    "notation",
    [
        " ",
        "path",
        "path:",
        "path: ",
        "path:str",
        "path : str",
        ": str",
        "*: str",
        "path*: str",
        "**path: str",
        "Path: str",
        "-path: str",
        "path-: str",
        "path: [str",
        "path: str]",
        "path: []",
        "path: str |",
        "path: str\n",
        "path: str,mode: str",
        "path: str,",
        "path: str, ",
        "path: str; mode: str",
    ],
)
def test_bad_notation_is_refused(notation: str) -> None:
    with pytest.raises(ValueError, match="is not an argument such as"):
        parse_arguments(notation)


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'path' is given twice"):
        parse_arguments("path: str, *path: int")


def test_the_catalogue_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        CATALOGUE["guest-ping"] = CATALOGUE["guest-info"]  # type: ignore[index]
    with pytest.raises(TypeError):
        del CATALOGUE["guest-ping"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        CATALOGUE["guest-ping"].success_response = False  # type: ignore[misc]
    with pytest.raises(AttributeError):
        CATALOGUE["guest-file-open"].arguments[0].optional = True  # type: ignore[misc]
    assert isinstance(FROZEN_ALLOWED, frozenset)

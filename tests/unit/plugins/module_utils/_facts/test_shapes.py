from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.shapes import SHAPES, Leaf, Shape, facts_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOGUE
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import decode

# One value of each of JSON's types; null is absent.
VALUES = (True, 7, 1.5, "text", [], {})
EXAMPLES = {"a string": "text", "an integer": 7, "a number": 1.5, "a boolean": True, "a string or an integer": 7}


def example(shape: Shape) -> Any:
    """A value of the shape, with every member that it may have."""
    if isinstance(shape, Leaf):
        return EXAMPLES[shape.name]
    if isinstance(shape, tuple):
        return [example(shape[0])]
    return {name: example(member) for name, member in shape.items()}


def is_fit(shape: Shape, value: Any) -> bool:
    if isinstance(shape, Leaf):
        return shape.fits(value)
    return isinstance(value, list if isinstance(shape, tuple) else dict)


def spoilt(shape: Shape, value: Any) -> Iterator[Any]:
    """The value with each of its nodes, one at a time, of each type that does not belong there."""
    yield from (other for other in VALUES if not is_fit(shape, other))
    if isinstance(value, list):
        yield from ([inner] for inner in spoilt(shape[0], value[0]))  # type: ignore[index]
    if isinstance(value, dict):
        for name, member in value.items():
            yield from ({**value, name: inner} for inner in spoilt(shape[name], member))  # type: ignore[index]


def test_the_commands_are_the_catalogues() -> None:
    assert SHAPES.keys() <= CATALOGUE.keys()


@pytest.mark.parametrize("command", SHAPES)
class TestEachCommand:
    def test_what_has_the_shape_is_taken(self, command: str) -> None:
        facts_of(command, example(SHAPES[command]))

    def test_members_may_be_missing(self, command: str) -> None:
        value = example(SHAPES[command])
        if isinstance(value, dict):
            assert facts_of(command, {}) == {}
        if isinstance(value, list):
            assert facts_of(command, [{}]) == [{}]

    def test_no_node_may_have_another_type(self, command: str) -> None:
        for value in spoilt(SHAPES[command], example(SHAPES[command])):
            with pytest.raises(RemoteProtocolError, match=f"from {command}"):
                facts_of(command, value)


def test_the_error_says_where_and_what() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        facts_of("guest-network-get-interfaces", [{"ip-addresses": [{"prefix": "8"}]}])
    assert caught.value.message == (
        "the agent returned from guest-network-get-interfaces (ip-addresses) (prefix) a string where an integer belongs"
    )


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
@pytest.mark.parametrize("name", ["load1m", "more"])
def test_a_number_that_json_does_not_have_is_none(number: float, name: str) -> None:
    with pytest.raises(RemoteProtocolError):
        facts_of("guest-get-load", {name: number})


def test_an_agent_of_another_make_may_add_members() -> None:
    value = {"id": "debian", "Build-Info": "e-f", "b": 1, "c": 1.5, "d": None, "e": True}
    assert facts_of("guest-get-osinfo", value) == {
        "id": "debian",
        "build_info": "e-f",
        "b": 1,
        "c": 1.5,
        "e": True,
    }


@pytest.mark.parametrize("value", [[], {}, [1], {"a": [[[]]]}])
def test_but_only_plain_ones(value: Any) -> None:
    assert facts_of("guest-get-osinfo", {"id": "debian", "more": value}) == {"id": "debian"}


class TestNull:
    """Agents written in Go have it for what is absent."""

    @pytest.mark.parametrize("command", SHAPES)
    def test_is_absent_wherever_it_is(self, command: str) -> None:
        shape = SHAPES[command]
        for value, expected in absent(shape, example(shape)):
            assert facts_of(command, value) == facts_of(command, expected), value

    def test_does_not_cost_an_interface_its_address(self) -> None:
        value = [
            {"name": "lo", "hardware-address": None, "ip-addresses": None, "statistics": None},
            None,
            {"name": "eth0", "ip-addresses": [None, {"ip-address": "192.0.2.7", "prefix": None}]},
        ]
        assert facts_of("guest-network-get-interfaces", value) == [
            {"name": "lo"},
            {"name": "eth0", "ip_addresses": [{"ip_address": "192.0.2.7"}]},
        ]

    @pytest.mark.parametrize(
        ("command", "kind"), [("guest-fsfreeze-status", "a string"), ("guest-get-osinfo", "an object")]
    )
    def test_is_no_reply_where_one_word_or_one_object_is_all_of_it(self, command: str, kind: str) -> None:
        with pytest.raises(RemoteProtocolError, match=f"null where {kind} belongs"):
            facts_of(command, None)

    def test_is_no_second_member_of_a_name(self) -> None:
        assert facts_of("guest-get-osinfo", {"pretty-name": "Debian", "pretty_name": None}) == {"pretty_name": "Debian"}


def absent(shape: Shape, value: Any) -> Iterator[tuple[Any, Any]]:
    """The value with each of its nodes, one at a time, null; and what that stands for."""
    if isinstance(value, list):
        yield None, []
        yield [None, *value, None], value
        yield from (([inner], [expected]) for inner, expected in absent(shape[0], value[0]))  # type: ignore[index]
    if isinstance(value, dict):
        for name, member in value.items():
            others = {other: value[other] for other in value if other != name}
            yield {**value, name: None}, others
            for inner, expected in absent(shape[name], member):  # type: ignore[index]
                if inner is not None:
                    yield {**value, name: inner}, {**value, name: expected}


class TestAWholeNumber:
    @pytest.mark.parametrize(("written", "meant"), [(5.0, 5), (1e3, 1000), (-2.0, -2), (1.5e10, 15_000_000_000)])
    def test_may_be_written_as_a_double(self, written: float, meant: int) -> None:
        (interface,) = facts_of("guest-network-get-interfaces", [{"statistics": {"rx-bytes": written}}])
        assert interface["statistics"]["rx_bytes"] == meant
        assert interface["statistics"]["rx_bytes"].__class__ is int

    def test_may_be_written_so_where_a_string_may_stand_as_well(self) -> None:
        assert facts_of("guest-network-get-route", [{"desprefixlen": 24.0}]) == [{"desprefixlen": 24}]

    @pytest.mark.parametrize("written", [1.5, -0.0, 1e300, float("inf"), float("nan")])
    def test_is_none_otherwise(self, written: float) -> None:
        with pytest.raises(RemoteProtocolError, match="a number where an integer belongs"):
            facts_of("guest-get-memory-block-info", {"size": written})

    @pytest.mark.parametrize(("name", "raw"), [("load1m", b"2.0"), ("load5m", b"1e1"), ("more", b"3.0")])
    def test_stays_a_number_where_one_belongs(self, name: str, raw: bytes) -> None:
        value = decode(b'{"%b": %b}' % (name.encode(), raw))
        fact = facts_of("guest-get-load", value)[name]
        assert (fact, fact.__class__) == (float(raw), float)

    def test_is_a_number_to_the_reader_of_an_error(self) -> None:
        with pytest.raises(RemoteProtocolError, match="a number where a string belongs"):
            facts_of("guest-get-host-name", decode(b'{"host-name": 5.0}'))


@pytest.mark.parametrize(
    "name",
    [
        "ansible_host",
        "Ansible-Connection",
        "ansible",
        "",
        "-a",
        "1a",
        "a b",
        "a\n",
        "a.b",
        "_a",
        "__com.redhat_x",
        "__org.qemu_rx-bytes",
        "__ansible_type",
        "\u00e4",
        "a" * 65,
        "{{ a }}",
        "a\0",
    ],
)
@pytest.mark.parametrize("value", [1, None, {"a": 1}])
def test_a_member_with_an_ill_formed_name_is_left_out(name: str, value: Any) -> None:
    assert facts_of("guest-get-osinfo", {name: value, "id": "debian"}) == {"id": "debian"}
    assert facts_of("guest-get-disks", [{"address": {name: value, "unit": 1}}]) == [{"address": {"unit": 1}}]


@pytest.mark.parametrize("other", ["pretty_name", "Pretty-Name", "PRETTY_NAME"])
def test_two_members_may_not_become_one(other: str) -> None:
    with pytest.raises(RemoteProtocolError, match="two members of the name pretty_name"):
        facts_of("guest-get-osinfo", {"pretty-name": "Debian", other: "Windows"})


def test_text_can_be_shown_wherever_it_stands() -> None:
    value = [{"name": "\x1b[2J", "more": "\u202e", "dependencies": ["{{ a }}"]}]
    assert facts_of("guest-get-disks", value) == [
        {"name": r"\x1b[2J", "more": r"\u202e", "dependencies": [r"\x7b{ a }}"]}
    ]


def test_text_is_no_longer_than_a_path() -> None:
    path = "/" + "x" * 4095
    assert facts_of("guest-get-fsinfo", [{"mountpoint": path}]) == [{"mountpoint": path}]
    assert len(facts_of("guest-get-fsinfo", [{"mountpoint": path * 1000}])[0]["mountpoint"]) == 4097

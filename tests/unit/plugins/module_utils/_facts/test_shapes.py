from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.shapes import SHAPES, Leaf, Shape, facts_of
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import decode

# One value of each JSON type, except null, which means absent.
VALUES = (True, 7, 1.5, "text", [], {})
EXAMPLES = {"a string": "text", "an integer": 7, "a number": 1.5, "a boolean": True, "a string or an integer": 7}


def example(shape: Shape) -> Any:
    """Return a value of the shape, with every member that it may have."""
    if isinstance(shape, Leaf):
        return EXAMPLES[shape.name]
    if isinstance(shape, tuple):
        return [example(shape[0])]
    return {name: example(member) for name, member in shape.items()}


def is_fit(shape: Shape, value: Any) -> bool:
    if isinstance(shape, Leaf):
        return shape.fits(value)
    return isinstance(value, list if isinstance(shape, tuple) else dict)


def spoiled(shape: Shape, value: Any) -> Iterator[Any]:
    """Yield the value with each node, one at a time, replaced by each wrong type."""
    yield from (other for other in VALUES if not is_fit(shape, other))
    if isinstance(value, list):
        yield from ([inner] for inner in spoiled(shape[0], value[0]))  # type: ignore[index]
    if isinstance(value, dict):
        for name, member in value.items():
            yield from ({**value, name: inner} for inner in spoiled(shape[name], member))  # type: ignore[index]


def absent(shape: Shape, value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the value with each node, one at a time, replaced by null, and the value that this is equivalent to."""
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


@pytest.mark.parametrize("command", SHAPES)
class TestEachCommand:
    def test_it_is_in_the_catalog_and_its_members_may_be_missing(self, command: str) -> None:
        assert command in CATALOG
        value = example(SHAPES[command])
        facts_of(command, value)
        if not isinstance(value, str):
            least: Any = {} if isinstance(value, dict) else [{}]
            assert facts_of(command, least) == least

    def test_a_node_of_a_wrong_type_is_an_error(self, command: str) -> None:
        for value in spoiled(SHAPES[command], example(SHAPES[command])):
            with pytest.raises(RemoteProtocolError, match=f"from {command}"):
                facts_of(command, value)

    def test_null_means_absent_everywhere(self, command: str) -> None:
        """Agents written in Go send null for absent members."""
        shape = SHAPES[command]
        for value, expected in absent(shape, example(shape)):
            assert facts_of(command, value) == facts_of(command, expected), value


@pytest.mark.parametrize(
    ("command", "value", "words"),
    [
        (
            "guest-network-get-interfaces",
            [{"ip-addresses": [{"prefix": "8"}]}],
            r"\(ip-addresses\) \(prefix\) a string where an integer belongs",
        ),
        ("guest-fsfreeze-status", None, "null where a string belongs"),
        ("guest-get-osinfo", None, "null where an object belongs"),
        ("guest-get-host-name", decode(b'{"host-name": 5.0}'), "a number where a string belongs"),
        *(
            ("guest-get-memory-block-info", {"size": size}, "a number where an integer belongs")
            for size in (1.5, -0.0, 1e300, float("inf"), float("nan"))
        ),
        ("guest-get-load", {"load1m": float("nan")}, "a number where a number belongs"),
        ("guest-get-load", {"more": float("inf")}, "a number that is out of range"),
        *(
            ("guest-get-osinfo", {"pretty-name": "Debian", other: "Windows"}, "two members named pretty_name")
            for other in ("pretty_name", "Pretty-Name")
        ),
    ],
)
def test_the_error_names_the_place_and_the_types(command: str, value: Any, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"^the agent returned from {command} .*{words}"):
        facts_of(command, value)


@pytest.mark.parametrize(
    ("command", "value", "facts"),
    [
        # A whole number may be written as a double, and stays a double where a number belongs.
        ("guest-get-memory-block-info", {"size": 5.0}, {"size": 5}),
        ("guest-get-memory-block-info", {"size": 1.5e10}, {"size": 15_000_000_000}),
        ("guest-network-get-route", [{"desprefixlen": 24.0}], [{"desprefixlen": 24}]),
        (
            "guest-get-load",
            decode(b'{"load1m": 2.0, "load5m": 1e1, "more": 3.0}'),
            {"load1m": 2.0, "load5m": 10.0, "more": 3.0},
        ),
        # Members that the shape does not list are accepted if they are scalars.
        (
            "guest-get-osinfo",
            {"id": "debian", "Build-Info": "e-f", "b": 1, "c": 1.5, "d": None, "e": True, "f": [], "g": {"a": [1]}},
            {"id": "debian", "build_info": "e-f", "b": 1, "c": 1.5, "e": True},
        ),
        ("guest-get-osinfo", {"pretty-name": "Debian", "pretty_name": None}, {"pretty_name": "Debian"}),
        # Text is made printable everywhere, and is cut at the length of a path.
        (
            "guest-get-disks",
            [{"name": "\x1b[2J", "more": "\u202e", "dependencies": ["{{ a }}"]}],
            [{"name": r"\x1b[2J", "more": r"\u202e", "dependencies": [r"\x7b{ a }}"]}],
        ),
        ("guest-get-fsinfo", [{"mountpoint": "/" + "x" * 4095}], [{"mountpoint": "/" + "x" * 4095}]),
    ],
)
def test_replies_are_converted_to_facts(command: str, value: Any, facts: Any) -> None:
    # Compared as text because 1 == 1.0 == True.
    assert repr(facts_of(command, value)) == repr(facts)


def test_text_longer_than_a_path_is_cut() -> None:
    assert len(facts_of("guest-get-fsinfo", [{"mountpoint": "/" + "x" * 10_000_000}])[0]["mountpoint"]) == 4097


@pytest.mark.parametrize(
    "name",
    [
        *("ansible_host", "Ansible-Connection", "ansible", "_a", "__com.redhat_x", "__org.qemu_rx-bytes"),
        *("", "-a", "1a", "a b", "a\n", "a.b", "\u00e4", "a" * 65, "{{ a }}", "a\0"),
    ],
)
@pytest.mark.parametrize("value", [1, None, {"a": 1}])
def test_a_member_with_an_ill_formed_name_is_left_out(name: str, value: Any) -> None:
    assert facts_of("guest-get-osinfo", {name: value, "id": "debian"}) == {"id": "debian"}
    assert facts_of("guest-get-disks", [{"address": {name: value, "unit": 1}}]) == [{"address": {"unit": 1}}]

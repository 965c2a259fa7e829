from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.names import SPELLINGS, Located, name_hosts
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.domains import uuid_of

HERE, SESSION, HV1, HV2 = (
    "qemu:///system",
    "qemu:///session",
    "qemu+ssh://root@hv1:2222/system",
    "qemu+tls://hv2/system",
)


def at(name: str, uri: str = HERE, uuid: str = "") -> Located:
    return Located(name, uuid or uuid_of(f"{name} {uri}"), uri)


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("name", ["web1", "web2"]),
        ("uuid", [uuid_of(f"web1 {HERE}"), uuid_of(f"web2 {HV1}")]),
        ("name@host", ["web1@localhost", "web2@hv1"]),
    ],
)
def test_a_host_is_called_as_it_was_asked_for(how: str, names: list[str]) -> None:
    assert name_hosts([at("web1"), at("web2", HV1)], how) == (tuple(names), ())


@pytest.mark.parametrize(
    ("how", "domains", "names"),
    [
        ("name", [at("web1", HV1), at("web2", HV1), at("web1", HV2)], [f"web1@{HV1}", "web2", f"web1@{HV2}"]),
        ("name@host", [at("web1"), at("web1", SESSION)], [f"web1@{HERE}", f"web1@{SESSION}"]),
        ("uuid", [at("a", HV1, "u"), at("b", HV2, "u")], [f"a@{HV1}", f"b@{HV2}"]),
        # A group has that name.
        ("name", [at("all"), at("web1")], [f"all@{HERE}", "web1"]),
        # A name that another guest had to take is shared, too.
        ("name", [at("a", HV1), at("a", HV2), at(f"a@{HV1}")], [f"a@{HV1}", f"a@{HV2}", f"a@{HV1}@{HERE}"]),
    ],
)
def test_a_guest_whose_name_is_not_its_own_is_called_by_its_uri_as_well(
    how: str, domains: list[Located], names: list[str]
) -> None:
    found = name_hosts(domains, how, {"all"})
    assert found.of == tuple(names)
    assert len(found.warnings) == sum("@qemu" in name for name in names)


@pytest.mark.parametrize(
    ("domains", "names"),
    [
        ([at("all"), at("web1")], (None, "web1")),  # name@URI is a group's, too
        ([at("a\x07"), at(r"a\x07"), at("web1")], (None, None, "web1")),  # shown, they are the same
    ],
)
def test_a_guest_that_no_name_would_tell_from_another_is_left_out(
    domains: list[Located], names: tuple[str | None, ...]
) -> None:
    found = name_hosts(domains, "name", {"all", f"all@{HERE}"})
    assert found.of == names
    assert all("left out" in warning for warning in found.warnings)
    assert len(found.warnings) == names.count(None)


def test_a_name_is_no_template_and_has_no_commands_to_terminals() -> None:
    (name,) = name_hosts([at("{{ x }}\x1b[2J")], "name").of
    assert name == r"\x7b{ x }}\x1b[2J"


def test_a_uri_that_is_none_is_a_name_as_well() -> None:
    assert name_hosts([at("a", "qemu://[bad/system")], "name@host").of == ("a@qemu://[bad/system",)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("a", "b", "a@hv1", "{{", "x" * 300)), st.sampled_from((HERE, HV1, HV2)), st.integers(0, 3)
        ),
        max_size=8,
        unique_by=(lambda each: (each[1], each[2])),
    ),
    st.sampled_from(sorted(SPELLINGS)),
)
def test_no_two_are_ever_called_the_same(domains: list[tuple[str, str, int]], how: str) -> None:
    located = [Located(name, uuid_of(str(number)), uri) for name, uri, number in domains]
    names = name_hosts(located, how).of
    # Names are unique within one hypervisor, except to a test.
    left_out = sum(name is None for name in names)
    assert len(set(names) - {None}) == len(located) - left_out
    if len({(each.name, each.uri) for each in located}) == len(located):
        assert left_out == 0

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.listing import ListedGuest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.names import HOSTNAME_FORMS, name_hosts
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.domains import uuid_of

HERE, SESSION, HV1, HV2 = (
    "qemu:///system",
    "qemu:///session",
    "qemu+ssh://root@hv1:2222/system",
    "qemu+tls://hv2/system",
)


def at(name: str, uri: str = HERE, uuid: str = "") -> ListedGuest:
    return ListedGuest(uri, name, uuid or uuid_of(f"{name} {uri}"), "running", "ok", {})


@pytest.mark.parametrize(
    ("how", "domains", "names", "warnings"),
    [
        ("name", [at("web1"), at("web2", HV1)], ["web1", "web2"], 0),
        ("uuid", [at("web1"), at("web2", HV1)], [uuid_of(f"web1 {HERE}"), uuid_of(f"web2 {HV1}")], 0),
        ("name@host", [at("web1"), at("web2", HV1)], ["web1@localhost", "web2@hv1"], 0),
        ("name@host", [at("a", "qemu://[bad/system")], ["a@qemu://[bad/system"], 0),
        # Templates and terminal commands are escaped.
        ("name", [at("{{ x }}\x1b[2J")], [r"\x7b{ x }}\x1b[2J"], 0),
        # Names that are not unique get the URI.
        ("name", [at("web1", HV1), at("web2", HV1), at("web1", HV2)], [f"web1@{HV1}", "web2", f"web1@{HV2}"], 2),
        ("name@host", [at("web1"), at("web1", SESSION)], [f"web1@{HERE}", f"web1@{SESSION}"], 2),
        ("uuid", [at("a", HV1, "u"), at("b", HV2, "u")], [f"a@{HV1}", f"b@{HV2}"], 2),
        ("name", [at("group"), at("web1")], [f"group@{HERE}", "web1"], 1),
        # A name with a URI can be the name of another guest.
        ("name", [at("a", HV1), at("a", HV2), at(f"a@{HV1}")], [f"a@{HV1}", f"a@{HV2}", f"a@{HV1}@{HERE}"], 3),
        # Guests without a unique name are left out: the longer name is a group's, too, or two names look the same.
        ("name", [at("all"), at("web1")], [None, "web1"], 1),
        ("name", [at("a\x07"), at(r"a\x07"), at("web1")], [None, None, "web1"], 2),
    ],
)
def test_a_host_has_the_requested_name_unless_it_is_not_unique(
    how: str, domains: list[ListedGuest], names: list[str | None], warnings: int
) -> None:
    found, reported = name_hosts(domains, how, {"group", "all", f"all@{HERE}"})
    assert found == names
    assert len(reported) == warnings
    assert sum("left out" in warning for warning in reported) == names.count(None)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("a", "b", "a@hv1", "{{", "x" * 300)), st.sampled_from((HERE, HV1, HV2)), st.integers(0, 3)
        ),
        max_size=8,
        unique_by=(lambda each: (each[1], each[2])),
    ),
    st.sampled_from(sorted(HOSTNAME_FORMS)),
)
def test_no_two_hosts_ever_have_the_same_name(domains: list[tuple[str, str, int]], how: str) -> None:
    located = [at(name, uri, uuid_of(str(number))) for name, uri, number in domains]
    names, _warnings = name_hosts(located, how, ())
    # On a real hypervisor, names are unique.
    left_out = sum(name is None for name in names)
    assert len(set(names) - {None}) == len(located) - left_out
    if len({(each.name, each.uri) for each in located}) == len(located):
        assert left_out == 0

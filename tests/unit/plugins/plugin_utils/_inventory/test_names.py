# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._inventory.names import SPELLINGS, Located, name_hosts
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_hypervisor import uuid_of

HERE, HV1, HV2 = "qemu:///system", "qemu+ssh://root@hv1:2222/system", "qemu+tls://hv2/system"


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


def test_domains_of_one_name_are_told_apart_by_their_hosts() -> None:
    names = name_hosts([at("web1", HV1), at("web2", HV1), at("web1", HV2)], "name")
    assert names.of == ("web1@hv1", "web2", "web1@hv2")
    assert len(names.warnings) == 2
    assert all("web1" in warning for warning in names.warnings)


def test_if_the_hosts_are_the_same_by_their_uris() -> None:
    session = "qemu:///session"
    for how in ("name", "name@host"):
        assert name_hosts([at("web1"), at("web1", session)], how).of == (f"web1@{HERE}", f"web1@{session}")


def test_if_the_uuids_are_the_same_as_well_by_where_they_are() -> None:
    assert name_hosts([at("a", HV1, "u"), at("a", HV2, "u")], "uuid").of == ("u@hv1", "u@hv2")


def test_a_name_that_another_one_had_to_take_is_shared_too() -> None:
    domains = [at("web1", HV1), at("web1", HV2), at("web1@hv1", HERE)]
    assert len(set(name_hosts(domains, "name").of)) == 3


def test_a_name_that_is_taken_is_nobodys() -> None:
    names = name_hosts([at("all"), at("web1")], "name", {"all"})
    assert names.of == ("all@localhost", "web1")
    assert len(names.warnings) == 1


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
    assert len(set(names)) == len(located)

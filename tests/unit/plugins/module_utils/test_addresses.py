# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils.addresses import rule, usable
from ansible_collections.qemu.guest_agent.plugins.module_utils.errors import InvalidOptionError
from hypothesis import given
from hypothesis import strategies as st


def interface(name: str, *addresses: str) -> dict[str, Any]:
    return {"name": name, "ip_addresses": [{"ip_address": each, "ip_address_type": "ipv4"} for each in addresses]}


LO = interface("lo", "127.0.0.1", "::1")
ETH0 = interface("eth0", "2001:db9::5", "10.0.0.5", "fe80::5")
ETH1 = interface("eth1", "192.168.7.5", "fd00::7")
DOCKER = interface("docker0", "172.17.0.1")
ALL = (LO, DOCKER, ETH0, ETH1)


def chosen(
    interfaces: Any = ALL, families: tuple[str, ...] = ("ipv4", "ipv6"), networks: Any = (), names: Any = ()
) -> str | None:
    return rule(families, networks, names).choose(list(interfaces) if isinstance(interfaces, tuple) else interfaces)


class TestUsable:
    @pytest.mark.parametrize(
        "text",
        [
            *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.1.1", "fe80::1"),  # noqa: S104
            *(
                "224.0.0.1",
                "ff02::1",
                "255.255.255.255",
                "240.0.0.1",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "::7f00:1",
            ),
            *("fe80::1%eth0", "2001:db8::1%{{ x }}", "2001:db8::1%; reboot", "fd00::1%"),
            *(
                "",
                "web1",
                "10.0.0.1/24",
                "10.0.0.1 ",
                "10.0.0",
                "010.0.0.1",
                "{{ x }}",
                "-oProxyCommand=x",
                "64:ff9b::7f00:1",
            ),
            *(None, 5, ["10.0.0.1"], b"\x0a\0\0\1"),
        ],
    )
    def test_what_is_no_address_of_another_host_is_none(self, text: Any) -> None:
        assert usable(text) is None

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            ("10.0.0.5", "10.0.0.5"),
            ("2001:DB9:0::5", "2001:db9::5"),
            ("fd00::0:1", "fd00::1"),
            ("100.64.0.1", "100.64.0.1"),
        ],
    )
    def test_an_address_is_written_in_one_way(self, text: str, address: str) -> None:
        assert str(usable(text)) == address

    @given(
        st.one_of(st.text(), st.ip_addresses().map(str), st.tuples(st.ip_addresses().map(str), st.text()).map("".join))
    )
    def test_nothing_of_a_text_is_left_but_an_address(self, text: str) -> None:
        address = usable(text)
        assert address is None or set(str(address)) <= set("0123456789abcdef.:")


class TestRule:
    def test_without_preferences_it_is_the_first_of_the_preferred_family(self) -> None:
        assert chosen() == "172.17.0.1"
        assert chosen([LO, ETH0, ETH1]) == "10.0.0.5"

    @pytest.mark.parametrize(
        ("families", "address"),
        [
            (("ipv6", "ipv4"), "2001:db9::5"),
            (("ipv6",), "2001:db9::5"),
            (("ipv4",), "10.0.0.5"),
            (("any",), "2001:db9::5"),
        ],
    )
    def test_families_are_preferred_in_their_order(self, families: tuple[str, ...], address: str) -> None:
        assert chosen([ETH0], families) == address

    def test_a_family_that_is_not_named_is_not_taken(self) -> None:
        assert chosen([DOCKER], ("ipv6",)) is None

    @pytest.mark.parametrize(
        ("networks", "address"),
        [
            (["192.168.0.0/16", "10.0.0.0/8"], "192.168.7.5"),
            (["fd00::/8", "10.0.0.0/8"], "fd00::7"),
            (["!172.17.0.0/16"], "10.0.0.5"),
            (["!172.16.0.0/12", "!10.0.0.0/8", "0.0.0.0/0"], "192.168.7.5"),
            (["198.51.100.0/24"], None),
            (["192.168.7.9/16"], "192.168.7.5"),
        ],
    )
    def test_networks_are_preferred_in_their_order_and_others_refused(self, networks: Any, address: str | None) -> None:
        assert chosen(networks=networks) == address

    @pytest.mark.parametrize(
        ("names", "address"),
        [
            (["!docker*"], "10.0.0.5"),
            (["eth1", "eth*"], "192.168.7.5"),
            (["eth*", "!eth0"], "192.168.7.5"),
            (["wlan*"], None),
            (["!*"], None),
        ],
    )
    def test_interfaces_are_preferred_in_their_order_and_others_refused(self, names: Any, address: str | None) -> None:
        assert chosen(names=names) == address

    def test_networks_count_more_than_interfaces_and_these_more_than_families(self) -> None:
        assert chosen(networks=["fd00::/8", "0.0.0.0/0"], names=["eth0", "eth1"]) == "fd00::7"
        assert chosen(families=("ipv6", "ipv4"), networks=["0.0.0.0/0", "::/0"], names=["*"]) == "172.17.0.1"
        assert (
            chosen([interface("a", "10.0.0.1"), interface("b", "fd00::1")], ("ipv4", "ipv6"), (), ["b", "a"])
            == "fd00::1"
        )

    @given(st.permutations([ETH0, ETH1, DOCKER, LO]))
    def test_what_is_preferred_does_not_depend_on_the_order_in_which_it_is_told(self, interfaces: Any) -> None:
        assert chosen(interfaces, networks=["192.168.0.0/16", "10.0.0.0/8", "0.0.0.0/0"]) == "192.168.7.5"

    @pytest.mark.parametrize(
        "interfaces", [None, [], {}, "eth0", [{}], [{"name": "eth0"}], [{"ip_addresses": [{}]}], [LO]]
    )
    def test_without_an_address_there_is_none(self, interfaces: Any) -> None:
        assert chosen(interfaces) is None

    @pytest.mark.parametrize(
        ("families", "networks", "word"),
        [(("ipv5",), (), "ipv5"), (("ipv4",), ("10.0.0.0/33",), "10.0.0.0/33"), (("ipv4",), ("!lan",), "lan")],
    )
    def test_an_entry_that_cannot_be_one_is_told_in_a_sentence(self, families: Any, networks: Any, word: str) -> None:
        with pytest.raises(InvalidOptionError) as caught:
            rule(families, networks, ())
        assert word in caught.value.message
        assert caught.value.hint

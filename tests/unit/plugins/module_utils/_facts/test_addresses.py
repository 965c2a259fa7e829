from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import InvalidOptionError
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.addresses import (
    DEFAULT_INTERFACES,
    rule,
    usable,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.windows_replies import INTERFACES


def interface(name: str, *addresses: str, mac: Any = None) -> dict[str, Any]:
    made = {"name": name, "ip_addresses": [{"ip_address": each, "ip_address_type": "ipv4"} for each in addresses]}
    return made if mac is None else {**made, "hardware_address": mac}


LO = interface("lo", "127.0.0.1", "::1")
ETH0 = interface("eth0", "2001:db9::5", "10.0.0.5", "fe80::5")
ETH1 = interface("eth1", "192.168.7.5", "fd00::7")
DOCKER = interface("docker0", "172.17.0.1")
ALL = [LO, DOCKER, ETH0, ETH1]


def chosen(families: Any = ("ipv4", "ipv6"), networks: Any = (), names: Any = (), **given: Any) -> str | None:
    return rule(families, networks, names).choose(given.get("interfaces", ALL))


class TestUsable:
    @pytest.mark.parametrize(
        "text",
        [
            *("127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "0.1.2.3", "::", "169.254.1.1", "fe80::1"),  # noqa: S104
            *("224.0.0.1", "ff02::1", "255.255.255.255", "240.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
            *("::7f00:1", "64:ff9b::7f00:1", "fe80::1%eth0", "2001:db8::1%{{ x }}", "2001:db8::1%; reboot", "fd00::1%"),
            *("", "web1", "10.0.0.1/24", "10.0.0.1 ", "10.0.0", "010.0.0.1", "{{ x }}", "-oProxyCommand=x"),
            *(None, 5, ["10.0.0.1"], b"\x0a\0\0\1"),
        ],
    )
    def test_only_an_address_of_another_host_is_one(self, text: Any) -> None:
        assert usable(text) is None

    @pytest.mark.parametrize(
        ("text", "address"),
        [
            *(("10.0.0.5", "10.0.0.5"), ("100.64.0.1", "100.64.0.1")),
            *(("2001:DB9:0::5", "2001:db9::5"), ("fd00::0:1", "fd00::1")),
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
    @pytest.mark.parametrize(
        ("options", "address"),
        [
            ({}, "172.17.0.1"),
            # Families, in the order of preference.
            ({"interfaces": [LO, ETH0, ETH1]}, "10.0.0.5"),
            ({"interfaces": [ETH0], "families": ["ipv6", "ipv4"]}, "2001:db9::5"),
            ({"interfaces": [ETH0], "families": ["ipv6"]}, "2001:db9::5"),
            ({"interfaces": [ETH0], "families": ["ipv4"]}, "10.0.0.5"),
            ({"interfaces": [ETH0], "families": ["any"]}, "2001:db9::5"),
            ({"interfaces": [DOCKER], "families": ["ipv6"]}, None),
            # Networks.
            ({"networks": ["192.168.0.0/16", "10.0.0.0/8"]}, "192.168.7.5"),
            ({"networks": ["fd00::/8", "10.0.0.0/8"]}, "fd00::7"),
            ({"networks": ["!172.17.0.0/16"]}, "10.0.0.5"),
            ({"networks": ["!172.16.0.0/12", "!10.0.0.0/8", "0.0.0.0/0"]}, "192.168.7.5"),
            ({"networks": ["198.51.100.0/24"]}, None),
            ({"networks": ["192.168.7.9/16"]}, "192.168.7.5"),
            # Interfaces.
            ({"names": ["!docker*"]}, "10.0.0.5"),
            ({"names": ["eth1", "eth*"]}, "192.168.7.5"),
            ({"names": ["eth*", "!eth0"]}, "192.168.7.5"),
            ({"names": ["wlan*"]}, None),
            # Networks count more than interfaces, and these more than families.
            ({"networks": ["fd00::/8", "0.0.0.0/0"], "names": ["eth0", "eth1"]}, "fd00::7"),
            ({"families": ["ipv6", "ipv4"], "networks": ["0.0.0.0/0", "::/0"], "names": ["*"]}, "172.17.0.1"),
            (
                {"interfaces": [interface("a", "10.0.0.1"), interface("b", "fd00::1")], "names": ["b", "a"]},
                "fd00::1",
            ),
            # Nothing to choose from.
            *(({"interfaces": each}, None) for each in (None, [], {}, "eth0", [{}], [{"name": "eth0"}], [LO])),
            ({"interfaces": [{"ip_addresses": [{}]}]}, None),
        ],
    )
    def test_the_best_address_is_chosen(self, options: dict[str, Any], address: str | None) -> None:
        assert chosen(**options) == address

    @pytest.mark.parametrize(("network", "word"), [("10.0.0.0/33", "10.0.0.0/33"), ("!lan", "lan")])
    def test_a_network_that_cannot_be_one_is_an_error(self, network: str, word: str) -> None:
        with pytest.raises(InvalidOptionError, match=word) as caught:
            rule(("ipv4",), (network,), ())
        assert caught.value.hint


FIRST, SECOND, OF_A_POD = "52:54:00:aa:bb:01", "52:54:00:aa:bb:02", "0a:58:0a:80:00:02"
MEANT = "192.168.126.11"

# Nodes and hosts whose agents list an interface that nobody reaches in front of the one that is meant.
OPENSHIFT = [
    LO,
    interface("ens3", mac=FIRST),
    interface("ovs-system", mac="3e:6b:90:5a:d3:00"),
    interface("ovn-k8s-mp0", "10.128.0.2", mac=OF_A_POD),
    interface("br-ex", "169.254.169.2", MEANT, mac=FIRST),
]
KUBERNETES = [
    LO,
    interface("kube-ipvs0", "10.96.0.1", mac="aa:00:00:00:00:01"),
    interface("vxlan.calico", "10.244.1.0", mac="66:00:00:00:00:01"),
    interface("nodelocaldns", "10.96.0.10"),
    interface("eth0", MEANT, mac=FIRST),
]
INCUS = [interface("incusbr0", "10.166.11.1", mac="00:16:3e:00:00:01"), interface("enp5s0", MEANT, mac=FIRST)]
HYPER_V = [
    interface("vEthernet (Default Switch)", "172.24.96.1", mac="00:15:5D:01:02:03"),
    interface("vEthernet (External)", MEANT, mac=FIRST.upper().replace(":", "-")),
    interface("Loopback Pseudo-Interface 1", "::1", "127.0.0.1"),
]
BOND = [
    interface("eth0", mac=FIRST),
    interface("docker0", "172.17.0.1", mac="02:42:ac:11:00:01"),
    interface("wg0", "10.6.0.1"),
    interface("tailscale0", "100.101.102.103"),
    interface("bond0.20", MEANT, mac=FIRST),
]
BRIDGED = [interface("podman1", "10.89.0.1", mac=OF_A_POD), interface("vnet0", MEANT, mac=FIRST)]
OF_OTHERS = [interface("net0", "10.1.1.1", mac=OF_A_POD), interface("net1", MEANT, mac=SECOND)]


def by_default(interfaces: list[dict[str, Any]], *macs: str) -> str | None:
    return rule(("ipv4", "ipv6"), (), DEFAULT_INTERFACES).choose(interfaces, macs)


class TestOwnDevices:
    """Those that the host gave the guest, as against what the guest has made."""

    @pytest.mark.parametrize("returned", [OPENSHIFT, KUBERNETES, INCUS, HYPER_V, BOND, BRIDGED, OF_OTHERS])
    def test_the_address_is_theirs_whatever_the_interface_is_called(self, returned: list[dict[str, Any]]) -> None:
        assert by_default(returned, FIRST, SECOND) == by_default(returned[::-1], FIRST, SECOND) == MEANT

    def test_of_windows_it_is_that_of_its_card(self) -> None:
        returned = [
            interface(
                each["name"], *(found["ip-address"] for found in each["ip-addresses"]), mac=each.get("hardware-address")
            )
            for each in INTERFACES
        ]
        assert by_default(returned) == by_default(returned, INTERFACES[0]["hardware-address"]) == "192.0.2.81"

    @given(st.permutations([*OPENSHIFT, *KUBERNETES[1:4], *BOND[1:4], *INCUS[:1], *HYPER_V[:1]]))
    def test_it_does_not_depend_on_what_else_there_is(self, returned: list[dict[str, Any]]) -> None:
        assert by_default(returned, FIRST) == MEANT

    def test_they_come_before_a_preferred_family_and_of_several_the_family_counts_and_then_their_order(self) -> None:
        first, second = interface("a", "fd00::1", "10.0.0.1", mac=FIRST), interface("b", "10.0.0.2", mac=SECOND)
        assert by_default([interface("tun0", "10.8.0.2"), interface("a", "fd00::1", mac=FIRST)], FIRST) == "fd00::1"
        assert by_default([first, second], FIRST, SECOND) == "10.0.0.1"
        assert by_default([first, second], SECOND, FIRST) == "10.0.0.2"
        assert by_default([interface("a", "fd00::1", mac=FIRST), second], FIRST, SECOND) == "10.0.0.2"

    @pytest.mark.parametrize("mac", ["52-54-00-AA-BB-01", "52:54:00:AA:bb:01"])
    def test_mac_addresses_are_compared_however_they_are_spelled(self, mac: str) -> None:
        for of_the_guest, of_the_host in ((mac, FIRST), (FIRST, mac)):
            assert by_default([ETH0, interface("x", "10.9.9.9", mac=of_the_guest)], of_the_host) == "10.9.9.9"

    @pytest.mark.parametrize("mac", [None, 5, "", "52:54:00", "00:00:00:00:00:00", "{{ x }}", ["a"]])
    def test_no_other_text_makes_an_interface_one_of_them(self, mac: Any) -> None:
        assert by_default([ETH0, interface("x", "10.9.9.9", mac=mac)], FIRST, str(mac), "") == "10.0.0.5"

    def test_one_without_a_usable_address_leaves_the_choice_to_the_patterns(self) -> None:
        returned = [interface("ens3", "fe80::1", mac=FIRST), DOCKER, interface("macvlan0", "10.0.0.7", mac=OF_A_POD)]
        assert by_default(returned, FIRST) == "10.0.0.7"

    @pytest.mark.parametrize(
        ("networks", "names", "address"),
        [
            ((), ("!br-*",), "10.128.0.2"),
            ((), ("ovn*", "*"), "10.128.0.2"),
            ((), ("ens*",), None),
            ((), ("*",), MEANT),
            ((), ("!docker*",), MEANT),
            ((), (), MEANT),
            (("10.128.0.0/14", "0.0.0.0/0"), (), "10.128.0.2"),
            (("!192.168.0.0/16",), DEFAULT_INTERFACES, None),
        ],
    )
    def test_the_users_networks_and_interfaces_count_more(
        self, networks: tuple[str, ...], names: tuple[str, ...], address: str | None
    ) -> None:
        assert rule(("ipv4",), networks, names).choose(OPENSHIFT, (FIRST,)) == address


REFUSED = [
    *("docker0", "docker_gwbridge", "br-0123456789ab", "veth1a2b3c4", "podman0", "cni-podman0", "nerdctl0", "virbr0"),
    *("vnet3", "lxcbr0", "lxdbr0", "incusbr0", "mpqemubr0", "vmnet8", "vboxnet0", "vEthernet (Default Switch)"),
    *("vEthernet (WSL)", "VMware Network Adapter VMnet1", "kube-ipvs0", "kube-bridge", "kube-dummy-if", "nodelocaldns"),
    *("cbr0", "cni0", "flannel.1", "flannel-v6.1", "cali0123456789a", "vxlan.calico", "vxlan-v6.calico", "tunl0"),
    *("wireguard.cali", "cilium_host", "lxc_health", "weave", "antrea-gw0", "ovn-k8s-mp0", "ovn0", "genev_sys_6081"),
]
TAKEN = [
    *("br-ex", "br-lan", "br-mgmt", "br-vlan", "br-0123", "br-storage-mgmt", "br0", "bridge0", "vmbr0", "eth0", "lo"),
    *("enp1s0", "ens3", "bond0", "team0", "wlan0", "vtnet0", "Ethernet 2", "eth0.20", "vlan20"),
]


@pytest.mark.parametrize("name", [*REFUSED, *TAKEN])
def test_by_default_interfaces_of_containers_and_of_guests_in_the_guest_are_refused(name: str) -> None:
    """For guests whose devices the host did not give them, such as passed-through ones."""
    assert by_default([interface(name, "10.9.9.9"), ETH1]) == ("192.168.7.5" if name in REFUSED else "10.9.9.9")

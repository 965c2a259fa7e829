from __future__ import annotations

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import numbers as module

NUMBERS = {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}


def test_error_numbers_are_those_of_libvirt() -> None:
    # An older libvirt-python has only some of them.
    theirs = {name: getattr(libvirt, f"VIR_ERR_{name}") for name in NUMBERS if hasattr(libvirt, f"VIR_ERR_{name}")}
    assert len(theirs) >= 18
    assert {name: NUMBERS[name] for name in theirs} == theirs


def test_state_numbers_and_names_are_those_of_libvirt() -> None:
    theirs = {getattr(libvirt, f"VIR_DOMAIN_{name.upper()}"): name for name in module.STATE_NAMES}
    assert {number: module.state_name(number) for number in range(8)} == theirs


@pytest.mark.parametrize("state", [-1, 8, 99])
def test_a_state_of_a_newer_libvirt_is_unknown_and_not_running(state: int) -> None:
    assert module.state_name(state) == "nostate"
    assert not module.is_running(state)


def test_other_numbers_are_those_of_libvirt() -> None:
    assert module.METADATA_ELEMENT == libvirt.VIR_DOMAIN_METADATA_ELEMENT
    assert dict(module.LISTED_STATES) == {
        libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING: libvirt.VIR_DOMAIN_RUNNING,
        libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED: libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF: libvirt.VIR_DOMAIN_SHUTOFF,
    }

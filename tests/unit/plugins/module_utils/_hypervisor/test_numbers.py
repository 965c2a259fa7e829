from __future__ import annotations

import libvirt
import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import numbers as module

NUMBERS = {name: value for name, value in vars(module).items() if name.isupper() and isinstance(value, int)}
STATES = {
    "NO_STATE": "NOSTATE",
    "RUNNING": "RUNNING",
    "BLOCKED": "BLOCKED",
    "PAUSED": "PAUSED",
    "SHUTTING_DOWN": "SHUTDOWN",
    "SHUT_OFF": "SHUTOFF",
    "CRASHED": "CRASHED",
    "PM_SUSPENDED": "PMSUSPENDED",
}
ERRORS = sorted(NUMBERS.keys() - STATES.keys() - {"METADATA_ELEMENT"})


@pytest.mark.parametrize("name", ERRORS)
def test_an_errors_number_is_libvirts_own(name: str) -> None:
    if not hasattr(libvirt, f"VIR_ERR_{name}"):
        pytest.skip(f"this libvirt-python has no VIR_ERR_{name}")
    assert NUMBERS[name] == getattr(libvirt, f"VIR_ERR_{name}")


@pytest.mark.parametrize(("ours", "theirs"), STATES.items())
def test_a_states_number_and_name_are_libvirts_own(ours: str, theirs: str) -> None:
    assert NUMBERS[ours] == getattr(libvirt, f"VIR_DOMAIN_{theirs}")
    assert module.state_name(NUMBERS[ours]) == theirs.lower()


def test_there_is_no_other_state() -> None:
    known = {
        name
        for name in dir(libvirt)
        if name.startswith("VIR_DOMAIN_") and name.removeprefix("VIR_DOMAIN_") in STATES.values()
    }
    assert len(known) == len(STATES) == len(module.STATE_NAMES)


def test_other_numbers_are_libvirts_own() -> None:
    assert module.METADATA_ELEMENT == libvirt.VIR_DOMAIN_METADATA_ELEMENT
    assert dict(module.LISTED_STATES) == {
        libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING: libvirt.VIR_DOMAIN_RUNNING,
        libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED: libvirt.VIR_DOMAIN_PAUSED,
        libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF: libvirt.VIR_DOMAIN_SHUTOFF,
    }


@pytest.mark.parametrize("state", [-1, 8, 99])
def test_a_state_that_a_newer_libvirt_has_is_none_that_is_known(state: int) -> None:
    assert module.state_name(state) == "nostate"
    assert not module.is_running(state)


def test_a_domain_that_is_blocked_runs() -> None:
    assert [state for state in range(8) if module.is_running(state)] == [
        libvirt.VIR_DOMAIN_RUNNING,
        libvirt.VIR_DOMAIN_BLOCKED,
    ]

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Hypervisor
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.large_texts import LargeTexts

LONGER = 30.0  # s


@pytest.fixture(autouse=True)
def usual() -> Iterator[float]:
    seconds = sys.getswitchinterval()
    yield seconds
    sys.setswitchinterval(seconds)


@pytest.mark.parametrize(("before", "meanwhile"), [(0.005, LONGER), (60.0, 60.0)])
def test_threads_have_longer_turns_until_the_last_user_ends(before: float, meanwhile: float) -> None:
    sys.setswitchinterval(before)
    texts = LargeTexts()
    texts.begin()
    texts.begin()
    assert sys.getswitchinterval() == meanwhile
    texts.end()
    assert sys.getswitchinterval() == meanwhile
    texts.end()
    assert sys.getswitchinterval() == before


def test_a_c_library_without_mallopt_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    texts = LargeTexts()
    texts.begin()
    texts.end()


def test_a_fleets_hypervisor_uses_it_until_it_is_closed_and_may_be_closed_twice(usual: float) -> None:
    hypervisors = [Hypervisor("test:///default") for _number in range(2)]
    assert sys.getswitchinterval() == LONGER
    for hypervisor in hypervisors:
        assert sys.getswitchinterval() == LONGER
        hypervisor.close()
        hypervisor.close()
    assert sys.getswitchinterval() == usual

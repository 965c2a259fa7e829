"""When systemd is notified, and of what."""

from __future__ import annotations

import pytest

from tests.support.resync_service import module

systemd_state = module("systemd_state")


@pytest.fixture
def notified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(systemd_state, "notify", sent.append)
    return sent


def test_it_is_ready_once_all_hypervisors_have_been_heard_of(notified: list[str]) -> None:
    made = systemd_state.SystemdState(["a", "b"])
    for uri, is_connected in (("a", True), ("a", False), ("b", False), ("b", True)):
        made.set_connected(uri, is_connected)
    made.end()
    watched = [f"STATUS=watching {count} of 2 hypervisors" for count in (1, 0, 0, 1)]
    assert notified == [*watched[:3], "READY=1", watched[3], "STOPPING=1"]


def test_a_hypervisor_that_does_not_even_refuse_is_not_waited_for_for_ever(notified: list[str]) -> None:
    waiting = systemd_state.SystemdState(["a"]).be_ready_in_the_end()
    waiting.send(None)
    assert notified == []
    with pytest.raises(StopIteration):
        waiting.send(None)
    assert notified == ["READY=1"]

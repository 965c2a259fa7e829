"""The notifications that systemd gets."""

from __future__ import annotations

import pytest

from tests.support.resync_service import module

systemd_state = module("systemd_state")


@pytest.fixture
def notified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    sent: list[str] = []
    monkeypatch.setattr(systemd_state, "notify", sent.append)
    return sent


def test_the_service_is_ready_once_all_hypervisors_have_answered_or_failed(notified: list[str]) -> None:
    made = systemd_state.SystemdState(["a", "b"])
    for uri, is_connected in (("a", True), ("a", False), ("b", False), ("b", True)):
        made.set_connected(uri, is_connected)
    made.end()
    watched = [f"STATUS=watching {count} of 2 hypervisors" for count in (1, 0, 0, 1)]
    assert notified == [*watched[:3], "READY=1", watched[3], "STOPPING=1"]


def test_a_hypervisor_that_never_answers_does_not_delay_readiness_forever(notified: list[str]) -> None:
    waiting = systemd_state.SystemdState(["a"]).report_ready_after_timeout()
    waiting.send(None)
    assert notified == []
    with pytest.raises(StopIteration):
        waiting.send(None)
    assert notified == ["READY=1"]

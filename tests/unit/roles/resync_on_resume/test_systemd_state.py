"""When systemd is notified, and of what."""

from __future__ import annotations

import pytest

from tests.support.resync_service import module

systemd_state = module("systemd_state")


def test_a_hypervisor_that_does_not_even_refuse_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    notified: list[str] = []
    monkeypatch.setattr(systemd_state, "notify", notified.append)
    made = systemd_state.SystemdState(["a"])
    waiting = made.be_ready_in_the_end()
    waiting.send(None)
    assert notified == []
    with pytest.raises(StopIteration):
        waiting.send(None)
    made.set_connected("a", True)
    assert notified == ["READY=1", "STATUS=watching 1 of 1 hypervisors"]

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import CommandFailedError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts, transfer
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import CommandTimeoutError

from tests.fakes.this_machine import refused, returning
from tests.support.guest_files import MUCH, Made, slowly


@pytest.mark.slow
class TestTheTimeForAFile:
    def test_is_for_all_that_is_written(self, guest: Made) -> None:
        here = guest({("guest-file-write", None): lambda perform: returning(little)(lambda: slowly(perform))})
        here.limit(exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError, match="within 1 s"):
            here.put(MUCH, here.files / "file")
        assert here.machine.count("guest-file-write") <= 1.0 / 0.05 + 1
        assert here.names() == []

    def test_is_for_all_that_is_read(self, guest: Made) -> None:
        here = guest({("guest-file-read", None): slowly})
        (here.files / "file").write_bytes(MUCH)
        here.machine.most_read = 300
        here.limit(exec_timeout=1.0)
        with pytest.raises(CommandTimeoutError, match="within 1 s"):
            here.fetch(here.files / "file")
        assert here.machine.count("guest-file-read") <= 1.0 / 0.05 + 1
        assert here.machine.open_files == 0

    def test_is_not_that_of_a_command_before(self, guest: Made) -> None:
        here = guest({("guest-exec", 0): refused("no memory")})
        here.limit(exec_timeout=0.2)
        with pytest.raises(CommandFailedError):
            here.run("true")
        here.limit(exec_timeout=30.0)
        time.sleep(0.3)
        name = os.fsdecode(b"caf\xe9")
        here.put(MUCH, here.files / name)
        assert here.fetch(here.files / name) == MUCH

    def test_is_for_what_a_script_does_in_the_guest(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scripts, "FETCH", "exec sleep 1000")
        here = guest()
        here.limit(exec_timeout=0.5)
        with pytest.raises(CommandTimeoutError):
            here.fetch("/x")

    def test_is_not_begun_anew_to_take_back_what_was_put(self, guest: Made, monkeypatch: pytest.MonkeyPatch) -> None:
        script = scripts.PUT.replace("give_up)", "give_up)\nexec sleep 1000")
        monkeypatch.setattr(scripts, "PUT", script)
        monkeypatch.setattr(transfer, "_GIVE_UP_PATIENCE", 0.5)
        here = guest({("guest-file-write", 1): refused("failed to write: No space left on device")})
        with pytest.raises(CommandFailedError, match="No space left"):
            here.put(MUCH, here.files / "file")


def little(value: Any) -> Any:
    return {**value, "count": min(value["count"], 300)}

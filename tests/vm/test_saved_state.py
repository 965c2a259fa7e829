"""A guest that is restored from a saved state is a guest of its own, and its clock is right."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import libvirt
import pytest

from tests.support.collection import ROOT
from tests.support.until import until
from tests.vm.guest import Guest
from tests.vm.saved_state import PLAIN
from tests.vm.session import restored_guest, restored_guests

# s; the witness steps a guest's clock by what it measured to a fraction of a millisecond.
RIGHT_S = 0.05


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which there is nothing but the image."""
    image = PLAIN.image(print).directory
    (tmp_path / image.name).symlink_to(image)
    monkeypatch.setenv("QGA_VM_CACHE", str(tmp_path))
    return tmp_path


def test_two_guests_of_one_state_are_guests_of_their_own(connection: libvirt.virConnect) -> None:
    names = ["qga-saved-a", "qga-saved-with-a-longer-name"]
    with restored_guests(connection, names) as guests:
        assert [guest.ask("guest-get-host-name")["host-name"] for guest in guests] == names
        assert len({connection.lookupByName(name).UUIDString() for name in names}) == 2
        for guest in guests:
            assert abs(guest.witness.offset().offset_ns) / 1e9 < RIGHT_S
        first, second = guests
        first.sh("echo mine >/etc/mine; sync")
        assert second.sh("ls /etc/mine 2>/dev/null || echo none") == "none\n"
        first.witness.step(-5_000_000_000)
        assert abs(second.witness.offset().offset_ns) / 1e9 < RIGHT_S


def test_nothing_is_left_of_a_guest(connection: libvirt.virConnect) -> None:
    with restored_guest(connection, "qga-saved") as guest:
        directory = guest.files.directory
        assert not guest.files.saved.exists()
    assert not directory.exists()
    assert Guest.find(connection, "qga-saved") is None


@pytest.mark.thorough
@pytest.mark.parametrize("damage", ["memory cut short", "memory is something else", "no overlay"])
def test_a_state_that_cannot_be_restored_is_made_anew_and_says_so(
    connection: libvirt.virConnect, own_cache: Path, damage: str
) -> None:
    said: list[str] = []
    with restored_guest(connection, "qga-saved", say=said.append):
        (state,) = (path for path in own_cache.glob("state-*") if path.is_dir())
    if damage == "memory cut short":
        os.truncate(state / "memory", 20 << 20)
    elif damage == "memory is something else":
        (state / "memory").write_bytes(b"something else" * 100)
    else:
        (state / "overlay.qcow2").unlink()
    said.clear()
    with restored_guest(connection, "qga-saved", say=said.append) as guest:
        assert guest.answers()
    assert [line for line in said if "cannot be restored and is made anew" in line] == [said[0]]
    said.clear()
    with restored_guest(connection, "qga-saved", say=said.append):
        assert said == []


@pytest.mark.thorough
def test_a_run_that_was_killed_in_the_first_boot_spoils_nothing(
    connection: libvirt.virConnect, own_cache: Path
) -> None:
    command = [sys.executable, "-m", "tests.vm", "up", "qga-saved"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as killed:
        until(lambda: list(own_cache.glob("state-*.part")) and _booting(connection), "no state is made", 120)
        killed.send_signal(signal.SIGKILL)
    try:
        with restored_guest(connection, "qga-saved") as guest:
            assert guest.answers()
        assert list(own_cache.glob("*.part")) == []
    finally:
        left = _booting(connection)
    assert left == []


def _booting(connection: libvirt.virConnect) -> list[str]:
    return [guest.name for guest in Guest.all(connection) if guest.name.startswith("qga-state-")]

"""The switch program for systemd, with a fake systemctl."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.init_scripts import program, rendered

STOCK, UNIT, SOCKET = "qemu-guest-agent.service", "qemu-ga-extended.service", "qemu-ga-extended-stock.socket"
FALLBACK_UNIT = "qemu-ga-extended-fallback.service"
FALLBACK = f"start --no-block {FALLBACK_UNIT}"

SYSTEMCTL = """#!/bin/sh
cd {answers}
echo "$*" >>log
case "$*" in
*NRestarts*) cat restarts ;;
*LoadState*) cat load_state ;;
is-active*--quiet*) test "$(cat active)" = active ;;
is-active*) cat active ;;
disable*) test ! -e unit_is_missing ;;
start*) test ! -e does_not_start || exit 1; echo active >active ;;
esac
"""


class Guest:
    """A guest's files in a directory, and the answers of its systemd."""

    def __init__(self, root: Path) -> None:
        self.work, self.dropin, self.link = (root / name for name in ("run/switch", "stock.d/dropin", "wants/link"))
        self._answers = root / "answers"
        for path in (self._answers, self.work, self.dropin.parent, self.link.parent, root / "dev", root / "bin"):
            path.mkdir(parents=True)
        self.dropin.touch()
        self.link.symlink_to("/nonexistent")
        (root / "dev/channel").touch()
        self.answer(restarts="0", load_state="loaded", active="active")
        program(root / "bin/systemctl", SYSTEMCTL.format(answers=self._answers))
        for name in ("sleep", "systemd-run"):
            (root / "bin" / name).symlink_to("/bin/true")
        self._python = root / "bin/agent"
        self.set_probe_error("")
        self._script = root / "switch"
        units = {"unit": UNIT, "socket_unit": SOCKET, "stock_unit": STOCK, "fallback_unit": FALLBACK_UNIT}
        files = {"stock_dropin": str(self.dropin), "wanted_link": str(self.link)}
        self._script.write_text(rendered("switch.j2", root, "systemd", confirm_seconds=120, **units, **files))
        self._environment = {**os.environ, "PATH": f"{root}/bin:{os.environ['PATH']}"}

    def answer(self, **answers: str) -> None:
        for name, answer in answers.items():
            (self._answers / name).write_text(answer + "\n")

    def set_probe_error(self, reason: str) -> None:
        """Make the probe fail with this reason, or succeed without one."""
        status = 1 if reason else 0
        program(self._python, f"#!/bin/sh\ncase $* in *probe.py*) echo {reason!r} >&2; exit {status} ;; esac\n")

    def switch(self, what: str) -> list[str]:
        """Run the switch; return the systemctl commands that change something."""
        (self._answers / "log").write_text("")
        subprocess.run(["sh", str(self._script), what], check=True, env=self._environment, capture_output=True)
        asked = (self._answers / "log").read_text().splitlines()
        return [line for line in asked if not line.startswith(("show", "is-"))]

    @property
    def result(self) -> str:
        return (self.work / "result").read_text()

    @property
    def restarts(self) -> Path:
        return self.work / "restarts"


@pytest.fixture(name="guest")
def _guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


# ------------------------------------------------------------------------------------------------------------ counting


@pytest.mark.parametrize("restarts", ["0", ""])  # no restarts, or a systemd that does not count them
def test_manual_starts_are_not_counted(guest: Guest, restarts: str) -> None:
    guest.answer(restarts=restarts)
    for _time in range(9):
        assert guest.switch("count") == []
    assert not guest.restarts.exists()


def test_the_fifth_automatic_restart_starts_the_fallback_and_manual_starts_do_not_reset_the_count(
    guest: Guest,
) -> None:
    for restarts in ("1", "2", "0", "1", "0", "1"):
        guest.answer(restarts=restarts)
        assert guest.switch("count") == []
    guest.answer(restarts="2")
    assert guest.switch("count") == [FALLBACK]


def test_old_restarts_do_not_count(guest: Guest) -> None:
    guest.answer(restarts="7")
    guest.restarts.write_text(" ".join(str(uptime() - ago) for ago in (250, 301, 302, 4000)))
    assert guest.switch("count") == []
    assert len(guest.restarts.read_text().split()) == 2


def test_if_restarts_cannot_be_stored_all_of_them_count(guest: Guest) -> None:
    guest.restarts.mkdir()
    guest.answer(restarts="4")
    assert guest.switch("count") == []
    guest.answer(restarts="5")
    assert guest.switch("count") == [FALLBACK]


# --------------------------------------------------------------------------------------------------------- giving back


@pytest.mark.parametrize("way", ["stock", "fallback"])
def test_the_stock_agent_gets_the_channel_back(guest: Guest, way: str) -> None:
    asked = guest.switch(way)
    assert [line for line in asked if line.startswith(("disable", "stop", "start"))] == [
        f"disable {UNIT}",
        f"stop {UNIT}",
        f"stop {STOCK}",
        f"stop {SOCKET}",
        f"start {STOCK}",
    ]
    assert guest.result.startswith("stock The ")
    assert not guest.dropin.parent.exists()
    assert not guest.link.parent.exists()


def test_a_unit_without_a_file_is_stopped_and_its_link_removed(guest: Guest) -> None:
    guest.answer(unit_is_missing="")
    assert f"stop {UNIT}" in guest.switch("stock")
    assert not guest.link.is_symlink()
    assert guest.result.startswith("stock ")


@pytest.mark.parametrize("load_state", ["masked", "not-found", "loaded"])
def test_a_stopped_stock_agent_stays_stopped(guest: Guest, load_state: str) -> None:
    guest.answer(load_state=load_state, active="inactive", does_not_start="")
    assert f"start {STOCK}" not in guest.switch("fallback")
    assert guest.result.startswith("stock ")
    assert guest.result.endswith("It was stopped, masked or removed before, and stays so.\n")
    assert not guest.dropin.exists()


@pytest.mark.parametrize(
    ("active", "was_moved"), [("activating", True), ("deactivating", True), ("failed", True), ("inactive", False)]
)
def test_a_stock_agent_that_was_not_stopped_is_started(guest: Guest, active: str, was_moved: bool) -> None:
    if not was_moved:  # there was never a switch
        guest.dropin.unlink()
    guest.answer(active=active)
    assert f"start {STOCK}" in guest.switch("stock")
    assert guest.result.startswith("stock ")


def test_a_stock_agent_that_does_not_start_is_reported(guest: Guest) -> None:
    guest.answer(does_not_start="", active="failed")
    guest.switch("stock")
    assert guest.result.startswith("none The stock agent has the channel again. The stock agent does not start")


# ------------------------------------------------------------------------------------------------------ the rehearsal


def test_the_result_has_the_reason_of_the_probe(guest: Guest) -> None:
    guest.dropin.unlink()
    guest.answer(active="inactive")
    guest.set_probe_error("The agent at a socket failed the test: it answered guest-get-clock with a riddle")
    asked = guest.switch("extended")
    assert guest.result.startswith(
        "stock The extended agent did not answer in the rehearsal: "
        "The agent at a socket failed the test: it answered guest-get-clock with a riddle"
    )
    # Nothing has been changed.
    assert not [line for line in asked if STOCK in line or UNIT in line]

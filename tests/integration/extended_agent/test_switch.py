"""The program that hands the channel over, as the role makes it, with a systemctl that answers what a test wants."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.processes.printing_guest import PrintingGuest
from tests.support.collection import ROOT

DEBIAN = "uid=0\ninit=systemd\nfamilies=debian\nversion=12\nname=Debian\npython=full\n"
STOCK, UNIT, SOCKET = "qemu-guest-agent.service", "qemu-ga-extended.service", "qemu-ga-extended-stock.socket"
FALLBACK = "start --no-block qemu-ga-extended-fallback.service"

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
    """A guest's files in a directory, and what its systemd says."""

    def __init__(self, directory: Path, scripts: Path) -> None:
        self.work, self.dropin, self.link = (directory / name for name in ("work", "stock.d/dropin", "wants/link"))
        self._answers = directory / "answers"
        for path in (self._answers, self.work, self.dropin.parent, self.link.parent):
            path.mkdir()
        self.dropin.touch()
        self.link.symlink_to("/nonexistent")
        self.says(restarts="0", load_state="loaded", active="active")
        program = directory / "bin/systemctl"
        program.parent.mkdir()
        program.write_text(SYSTEMCTL.format(answers=self._answers))
        program.chmod(0o755)
        sleep = program.with_name("sleep")
        sleep.symlink_to("/bin/true")
        self._path = f"{program.parent}:{os.environ['PATH']}"
        self._script = directory / "switch"
        text = scripts.read_text()
        (directory / "channel").touch()
        self._python = directory / "python"
        self.probe_says("")
        (program.parent / "systemd-run").symlink_to("/bin/true")
        places = {"switch": self.work, "dropin": self.dropin, "link": self.link, "python": self._python}
        for name, place in {**places, "channel": directory / "channel"}.items():
            text = text.replace(f"/placeholder/{name}", str(place))
        self._script.write_text(text)

    def says(self, **answers: str) -> None:
        for name, answer in answers.items():
            (self._answers / name).write_text(answer + "\n")

    def probe_says(self, reason: str) -> None:
        """Have the probe fail with this reason, or succeed without one."""
        status = 1 if reason else 0
        self._python.write_text(f"#!/bin/sh\ncase $* in *probe.py*) echo {reason!r} >&2; exit {status} ;; esac\n")
        self._python.chmod(0o755)

    def switch(self, what: str) -> list[str]:
        """Return what systemctl was asked for that changes something."""
        (self._answers / "log").write_text("")
        environment = {**os.environ, "PATH": self._path}
        subprocess.run(["sh", str(self._script), what], check=True, env=environment, capture_output=True)
        asked = (self._answers / "log").read_text().splitlines()
        return [line for line in asked if not line.startswith(("show", "is-"))]

    @property
    def verdict(self) -> str:
        return (self.work / "verdict").read_text()

    @property
    def restarts(self) -> Path:
        return self.work / "restarts"


@pytest.fixture(name="scripts", scope="module")
def _scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("switch")
    places: dict[str, Any] = {
        "extended_agent_switch_directory": "/placeholder/switch",
        "extended_agent_stock_dropin": "/placeholder/dropin",
        "extended_agent_wanted_link": "/placeholder/link",
        "extended_agent_python": "/placeholder/python",
        "extended_agent_channel": "/placeholder/channel",
    }
    guest = PrintingGuest(directory, {"os-release": DEBIAN})
    template = ROOT / "roles/extended_agent/templates/switch.j2"
    show = f"{{'text': lookup('ansible.builtin.template', '{template}')}}"
    run = guest.run_role("extended_agent", "-e", json.dumps(places), tasks_from="requirements", show=show)
    assert run.status == 0, run.output
    script = directory / "script"
    script.write_text(run.result("Show")["msg"]["text"])
    return script


@pytest.fixture(name="guest")
def _guest(scripts: Path, tmp_path: Path) -> Guest:
    return Guest(tmp_path, scripts)


def uptime() -> int:
    return int(float(Path("/proc/uptime").read_text().split()[0]))


# ------------------------------------------------------------------------------------------------------------ counting


def test_starts_by_hand_are_not_counted(guest: Guest) -> None:
    for _time in range(9):
        assert guest.switch("count") == []
    assert not guest.restarts.exists()


def test_the_fifth_restart_by_systemd_within_five_minutes_gives_the_channel_back(guest: Guest) -> None:
    for restarts in range(1, 5):
        guest.says(restarts=str(restarts))
        assert guest.switch("count") == []
    guest.says(restarts="5")
    assert guest.switch("count") == [FALLBACK]


def test_a_start_by_hand_in_between_forgets_no_failure(guest: Guest) -> None:
    for restarts in ("1", "2", "0", "1", "0", "1"):
        guest.says(restarts=restarts)
        assert guest.switch("count") == []
    guest.says(restarts="2")
    assert guest.switch("count") == [FALLBACK]


def test_restarts_of_longer_ago_do_not_count(guest: Guest) -> None:
    guest.says(restarts="7")
    guest.restarts.write_text(" ".join(str(uptime() - ago) for ago in (250, 301, 302, 4000)))
    assert guest.switch("count") == []
    assert len(guest.restarts.read_text().split()) == 2


def test_where_nothing_can_be_noted_all_restarts_count(guest: Guest) -> None:
    guest.restarts.mkdir()
    guest.says(restarts="4")
    assert guest.switch("count") == []
    guest.says(restarts="5")
    assert guest.switch("count") == [FALLBACK]


def test_a_systemd_that_does_not_count_restarts_gives_nothing_back(guest: Guest) -> None:
    guest.says(restarts="")
    assert guest.switch("count") == []


# --------------------------------------------------------------------------------------------------------- giving back


@pytest.mark.parametrize("way", ["stock", "fallback"])
def test_the_channel_is_given_back(guest: Guest, way: str) -> None:
    asked = guest.switch(way)
    assert [line for line in asked if line.startswith(("disable", "stop", "start"))] == [
        f"disable {UNIT}",
        f"stop {UNIT}",
        f"stop {STOCK}",
        f"stop {SOCKET}",
        f"start {STOCK}",
    ]
    assert guest.verdict.startswith("stock The ")
    assert not guest.dropin.parent.exists()
    assert not guest.link.parent.exists()


def test_a_unit_whose_file_is_missing_is_stopped_and_its_link_removed(guest: Guest) -> None:
    guest.says(unit_is_missing="")
    assert f"stop {UNIT}" in guest.switch("stock")
    assert not guest.link.is_symlink()
    assert guest.verdict.startswith("stock ")


@pytest.mark.parametrize(
    ("load_state", "active"), [("masked", "inactive"), ("not-found", "inactive"), ("loaded", "inactive")]
)
@pytest.mark.parametrize("way", ["stock", "fallback"])
def test_a_stock_agent_that_somebody_has_stopped_stays_so(guest: Guest, way: str, load_state: str, active: str) -> None:
    guest.says(load_state=load_state, active=active, does_not_start="")
    assert f"start {STOCK}" not in guest.switch(way)
    assert guest.verdict.startswith("stock ")
    assert guest.verdict.endswith("It was stopped, masked or removed before, and stays so.\n")
    assert not guest.dropin.exists()


@pytest.mark.parametrize("active", ["activating", "deactivating", "failed"])
def test_a_stock_agent_that_has_failed_is_started(guest: Guest, active: str) -> None:
    guest.says(active=active)
    assert f"start {STOCK}" in guest.switch("stock")
    assert guest.verdict.startswith("stock ")


def test_a_stock_agent_that_the_extended_one_never_stood_in_front_of_is_started(guest: Guest) -> None:
    guest.dropin.unlink()
    guest.says(active="inactive")
    assert f"start {STOCK}" in guest.switch("stock")


def test_a_stock_agent_that_does_not_start_is_reported(guest: Guest) -> None:
    guest.says(does_not_start="", active="failed")
    guest.switch("stock")
    assert guest.verdict.startswith(
        "none The channel was given back to the stock agent. The stock agent does not start"
    )


# ------------------------------------------------------------------------------------------------------ the rehearsal


def test_the_reason_of_the_probe_is_the_verdicts(guest: Guest) -> None:
    guest.dropin.unlink()
    guest.says(active="inactive")
    guest.probe_says("The agent on a socket did not answer: it answered guest-get-clock with a riddle")
    asked = guest.switch("extended")
    assert guest.verdict.startswith(
        "stock The extended agent did not answer when it was tried out: "
        "The agent on a socket did not answer: it answered guest-get-clock with a riddle"
    )
    # Nothing has been touched.
    assert not [line for line in asked if STOCK in line or UNIT in line]

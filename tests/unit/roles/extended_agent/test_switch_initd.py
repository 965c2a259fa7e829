"""Moving a stock agent without systemd: a line in the configuration of its init script."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.init_scripts import USERLANDS, ShellGuest, program, rendered
from tests.support.until import until

pytestmark = pytest.mark.slow


class Guest(ShellGuest):
    """A guest with the functions of the switch."""

    def __init__(self, directory: Path, userland: str) -> None:
        super().__init__(directory, userland)
        root = self.root
        program(root / "bin/update-rc.d", "exit 0")
        program(root / "bin/rc-update", "exit 0")
        self.environment["PATH"] = f"{root}/bin:{self.environment['PATH']}"
        (root / "functions").write_text(
            f"python={root}/bin/agent rehearsal=rehearsal settle_seconds=0\n" + rendered("switch-initd.sh.j2", root)
        )

    def call(self, *functions: str) -> subprocess.CompletedProcess[str]:
        command = [*self.shell, "-c", f"set -u; . {self.root}/functions; {'; '.join(functions)}"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)

    def is_true(self, function: str) -> bool:
        done = self.call(function)
        assert done.stderr == ""
        return done.returncode == 0

    @property
    def settings(self) -> Path:
        """Debian's configuration, which most of these tests use."""
        return self.root / "etc/default/qemu-guest-agent"

    def use_openrc_script(self) -> Path:
        """Install a stock script that is written for OpenRC; return its configuration."""
        program(
            self.root / "etc/init.d/qemu-guest-agent",
            f'#!/sbin/openrc-run\n# it is not run here\necho "$1" >>{self.root}/stock.calls\n',
        )
        return self.root / "etc/conf.d/qemu-guest-agent"

    def pid(self) -> int:
        return int((self.root / "run/qemu-ga.pid").read_text())

    def close(self) -> None:
        if self.is_true("stock_agent_runs"):
            os.kill(self.pid(), signal.SIGKILL)


@pytest.fixture(name="guest", params=USERLANDS)
def _guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path, request.param)
    yield guest
    guest.close()


BEFORE = {"nothing": None, "settings": "DAEMON_ARGS=-v\n", "a last line without an end": "DAEMON_ARGS=-v"}


@pytest.mark.parametrize("before", BEFORE)
def test_the_line_is_added_and_removed_and_the_rest_stays(guest: Guest, before: str) -> None:
    text = BEFORE[before]
    if text is not None:
        target = guest.root / "var/kept-elsewhere"
        target.write_text(text)
        target.chmod(0o640)
        guest.settings.symlink_to(target)
    assert not guest.is_true("stock_agent_is_redirected")
    guest.call("redirect_stock_agent", "redirect_stock_agent")
    assert guest.is_true("stock_agent_is_redirected")
    *kept, line = guest.settings.read_text().splitlines()
    assert (kept, line.endswith("# qemu-ga-extended")) == ((text or "").splitlines(), True)
    assert guest.call(f". {guest.settings}", 'echo "$TRANSPORT $GA_METHOD $GA_PATH"').stdout.split() == [
        f"unix-listen:{guest.root}/run/extended/stock.sock",
        "unix-listen",
        f"{guest.root}/run/extended/stock.sock",
    ]

    guest.call("undo_redirection")
    if text is not None:
        assert guest.settings.is_symlink()
        assert target.read_text().rstrip("\n") == text.rstrip("\n")
        assert target.stat().st_mode & 0o777 == 0o640
    names = [path.name for path in (guest.root / "etc/default").iterdir()]
    assert names == ([] if text is None else ["qemu-guest-agent"])
    assert not (guest.root / "var/stock.sh").exists()


def test_an_older_redirection_is_detected(guest: Guest) -> None:
    guest.call("redirect_stock_agent")
    (guest.root / "lib/stock.sh").write_text("TRANSPORT=unix-listen:/elsewhere\n")
    assert not guest.is_true("stock_agent_is_redirected")


def test_an_openrc_script_has_another_configuration_and_both_are_cleaned_up(guest: Guest) -> None:
    guest.call("redirect_stock_agent")
    configuration = guest.use_openrc_script()
    assert not guest.is_true("stock_agent_is_redirected")
    guest.call("redirect_stock_agent")
    assert "# qemu-ga-extended" in configuration.read_text()
    assert not guest.settings.exists()
    guest.call("undo_redirection")
    assert not configuration.exists()


def test_the_stock_script_records_whether_it_is_wanted(guest: Guest) -> None:
    guest.call("redirect_stock_agent")
    wanted = guest.root / "run/extended/stock.wanted"
    for action in ("status", "start", "status", "stop", "status", "restart", "stop", "force-reload"):
        was_wanted = wanted.exists()
        guest.call(f'set -- {action}; . "{guest.settings}"')
        expected = {"stop": False, "status": was_wanted}.get(action, True)
        assert (wanted.exists(), guest.is_true("stock_agent_is_wanted")) == (expected, expected)


def test_openrc_reports_whether_its_own_service_is_wanted(guest: Guest) -> None:
    guest.use_openrc_script()
    assert not guest.is_true("stock_agent_is_wanted")
    (guest.root / "run/openrc/started").mkdir(parents=True)
    (guest.root / "run/openrc/started/qemu-guest-agent").touch()
    assert guest.is_true("stock_agent_is_wanted")


def test_a_stock_agent_stays_stopped_if_it_was_stopped_after_the_move_or_removed(guest: Guest) -> None:
    assert not guest.is_true("stock_agent_is_left_alone")
    guest.call("redirect_stock_agent", "start_stock_agent")
    until((guest.root / "run/qemu-ga.pid").exists, "it does not run")
    assert not guest.is_true("stock_agent_is_left_alone")
    os.kill(guest.pid(), signal.SIGSTOP)  # it hangs now, so SIGTERM has no effect, and it is killed
    assert guest.is_true("stop_stock_agent; ! stock_agent_runs")
    assert guest.is_true("stock_agent_is_left_alone")
    (guest.root / "etc/init.d/qemu-guest-agent").unlink()
    guest.call("undo_redirection")
    assert guest.is_true("stock_agent_is_left_alone")


def test_a_pid_of_another_process_is_not_the_stock_agents(guest: Guest) -> None:
    for content in ("", "x", "99999999", str(os.getpid())):
        (guest.root / "run/qemu-ga.pid").write_text(content)
        assert not guest.is_true("stock_agent_runs")


def test_processes_are_stopped_even_without_their_init_script(guest: Guest) -> None:
    (guest.root / "run/extended").mkdir()
    (guest.root / "etc/init.d/qemu-guest-agent").unlink()
    left = []
    for name, own in (("run/qemu-ga-extended.pid", "qemu-ga-extended"), ("run/extended/agent.pid", "qemu_ga_extended")):
        left.append(subprocess.Popen(["sh", "-c", "read -r line", own], stdin=subprocess.PIPE))
        (guest.root / name).write_text(f"{left[-1].pid}\n")
    assert guest.call("withdraw").stderr == ""
    assert [process.wait(30) for process in left] == [-signal.SIGTERM] * 2
    with subprocess.Popen(["sleep", "600"]) as other:
        (guest.root / "run/extended/agent.pid").write_text(f"{other.pid}\n")
        guest.call("withdraw")
        assert other.poll() is None
        other.kill()
    assert not (guest.root / "run/qemu-ga-extended.pid").exists()

"""The supervisor for guests without systemd, with a real stock agent, and a sleeping program as the extended agent."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.processes.state import is_gone
from tests.support.agent_client import Client
from tests.support.init_scripts import USERLANDS, ShellGuest, program, rendered
from tests.support.until import until

pytestmark = pytest.mark.slow

OURSELVES = pwd.getpwuid(os.geteuid()).pw_name
# Only root can give a file away.
USER = "nobody" if OURSELVES == "root" else OURSELVES
AGENT = "#!/bin/sh\necho start $* >>{root}/agent.calls\n{body}\n"
SLEEPS = "exec sleep 600"
ENDS = "echo it fails >&2; exit 1"


class Guest(ShellGuest):
    """A guest with a supervisor in it."""

    def __init__(self, directory: Path, userland: str) -> None:
        super().__init__(directory, userland)
        root = self.root
        self.behave(SLEEPS)
        program(root / "lib/switch", f"echo $1 >>{root}/switch.calls\n")
        (root / "lib/supervise").write_text(rendered("supervise.j2", root, user=USER))
        self.change("poll_seconds=1", "poll_seconds=0.1")
        self._processes: list[subprocess.Popen[bytes]] = []

    def behave(self, body: str) -> None:
        """Set the agent's program, from its next start."""
        program(self.root / "bin/agent", AGENT.format(root=self.root, body=body))

    def change(self, old: str, new: str) -> None:
        """Change the supervisor's text."""
        text = (self.root / "lib/supervise").read_text()
        assert old in text
        (self.root / "lib/supervise").write_text(text.replace(old, new))

    def supervise(self, is_up: Callable[[], object] | None = None) -> subprocess.Popen[bytes]:
        command = [*self.shell, str(self.root / "lib/supervise")]
        with (self.root / "supervise.log").open("ab") as log:
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self._processes.append(process)
        until(is_up or (lambda: self.number("run/extended/agent.pid")), self.log)
        return process

    def kill(self, pidfile: str) -> int:
        """Kill the process in the PID file, and return its PID. With 0, the signal would go to this program."""
        until(lambda: self.number(pidfile), self.log)
        number = self.number(pidfile)
        os.kill(number, signal.SIGKILL)
        return number

    def kill_agent(self) -> None:
        """Kill the agent, and return when another one runs."""
        before = self.kill("run/extended/agent.pid")
        until(lambda: self.number("run/extended/agent.pid") not in (0, before), self.log)

    def stock(self, action: str) -> None:
        subprocess.run([str(self.root / "etc/init.d/qemu-guest-agent"), action], check=True)

    def redirect(self) -> None:
        """Move the stock agent to the private socket, as the switch does."""
        (self.root / "etc/default/qemu-guest-agent").write_text(f". {self.root}/lib/stock.sh\n")
        self.stock("start")
        until(self.stock_answers, "the stock agent does not listen")

    def stock_answers(self) -> bool:
        try:
            with Client(str(self.socket)):
                return True
        except OSError:
            return False

    @property
    def socket(self) -> Path:
        return self.root / "run/extended/stock.sock"

    def lines(self, name: str) -> list[str]:
        file = self.root / name
        return file.read_text().splitlines() if file.exists() else []

    def number(self, name: str) -> int:
        return int((self.lines(name) or ["0"])[0] or 0)

    def log(self) -> str:
        return "\n".join(self.lines("supervise.log") + self.lines("run/extended/last-words"))

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(30)
        for name in ("run/qemu-ga.pid", "run/extended/agent.pid"):
            if number := self.number(name):
                os.kill(number, signal.SIGKILL)
        until(lambda: not self.processes(), lambda: f"left: {self.processes()}")

    def processes(self) -> list[int]:
        """Return the PIDs of the supervisor and the processes that it has started."""
        return [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/cmdline")
            if str(self.root).encode() in command_line(path) and not is_gone(int(path.parent.name))
        ]


@pytest.fixture(name="guest", params=USERLANDS)
def _guest(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path, request.param)
    yield guest
    guest.close()


def command_line(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def owner(path: Path) -> str:
    """Return the name of the owner, or an empty string if the file is missing."""
    try:
        return pwd.getpwuid(path.stat().st_uid).pw_name
    except FileNotFoundError:
        return ""


def test_the_agent_runs_as_its_user_with_the_devices_until_the_supervisor_stops(guest: Guest) -> None:
    (guest.root / "dev/rtc0").touch()
    supervisor = guest.supervise()
    until(lambda: guest.lines("agent.calls"), guest.log)
    expected = f"start -E -s -S -m qemu_ga_extended --config {guest.root}/etc/qemu-ga-extended.conf --user {USER}"
    assert guest.lines("agent.calls") == [expected]
    assert [owner(guest.root / name) for name in ("dev/channel", "dev/rtc0", "var/agent")] == [USER] * 3
    assert (guest.root / "var/agent").stat().st_mode & 0o777 == 0o700
    agent = guest.number("run/extended/agent.pid")
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    assert is_gone(agent)
    assert [owner(guest.root / name) for name in ("dev/channel", "dev/rtc0")] == [OURSELVES] * 2
    assert not (guest.root / "run/extended/agent.pid").exists()


def test_an_agent_that_ignores_sigterm_is_killed(guest: Guest) -> None:
    guest.change("grace_seconds=10", "grace_seconds=1")
    guest.behave("trap '' TERM; while :; do sleep 1; done")
    supervisor = guest.supervise()
    until(lambda: guest.lines("agent.calls"), guest.log)
    agent = guest.number("run/extended/agent.pid")
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    until(lambda: is_gone(agent), "it runs")


def test_the_fifth_failure_starts_the_fallback_and_no_agent_is_started_any_more(guest: Guest) -> None:
    guest.behave(ENDS)
    guest.supervise()
    until(lambda: guest.lines("switch.calls"), guest.log)
    assert len(guest.lines("agent.calls")) == 5
    time.sleep(1)  # several of its rounds
    assert guest.lines("switch.calls") == ["fallback"]
    assert len(guest.lines("agent.calls")) == 5
    assert guest.lines("run/extended/last-words") == ["it fails"] * 5


@pytest.mark.parametrize("other", ["switch", "another program"])
def test_no_fallback_is_started_during_a_switch(guest: Guest, other: str) -> None:
    (guest.root / "run/switch").mkdir()
    with subprocess.Popen(["/bin/sh", "-c", "read -r line", other], stdin=subprocess.PIPE) as process:
        (guest.root / "run/switch/pid").write_text(f"{process.pid}\n")
        guest.behave(ENDS)
        guest.supervise()
        if other == "switch":
            until(lambda: len(guest.lines("agent.calls")) > 6, guest.log)
            assert guest.lines("switch.calls") == []
        else:
            until(lambda: guest.lines("switch.calls") == ["fallback"], guest.log)


def test_a_missing_channel_is_not_a_failure(guest: Guest) -> None:
    (guest.root / "dev/channel").rename(guest.root / "dev/hidden")
    guest.change("        check_agent\n", f"        check_agent\n echo >>{guest.root}/rounds\n")
    guest.supervise(lambda: len(guest.lines("rounds")) > 6)
    assert guest.lines("agent.calls") == guest.lines("switch.calls") == []
    (guest.root / "dev/hidden").rename(guest.root / "dev/channel")
    until(lambda: guest.lines("agent.calls"), guest.log)


def test_a_dead_stock_agent_is_restarted_and_the_agents_user_owns_its_socket(guest: Guest) -> None:
    def socket_is_lent() -> bool:
        return owner(guest.socket) == USER and guest.socket.stat().st_mode & 0o777 == 0o600

    guest.redirect()
    guest.supervise()
    until(socket_is_lent, guest.log)
    before = guest.kill("run/qemu-ga.pid")
    until(lambda: guest.number("run/qemu-ga.pid") not in (0, before), guest.log)
    until(guest.stock_answers, guest.log)
    until(socket_is_lent, guest.log)
    assert guest.lines("stock.calls") == ["start", "start"]


def test_a_stock_agent_that_was_stopped_or_has_no_init_script_is_not_started(guest: Guest) -> None:
    guest.redirect()
    guest.supervise()
    guest.stock("stop")
    until(lambda: not (guest.root / "run/qemu-ga.pid").exists(), "it runs")
    # In each round, the stock agent is checked before the extended agent is restarted.
    for _round in range(2):
        guest.kill_agent()
    assert guest.lines("stock.calls") == ["start", "stop"]
    assert guest.lines("switch.calls") == []
    guest.stock("start")
    until(lambda: owner(guest.socket) == USER, guest.log)
    (guest.root / "etc/init.d/qemu-guest-agent").unlink()
    guest.kill("run/qemu-ga.pid")
    for _round in range(2):
        guest.kill_agent()
    assert "not found" not in guest.log()
    (guest.root / "run/qemu-ga.pid").unlink()


def test_the_agent_of_a_killed_supervisor_is_stopped_first(guest: Guest) -> None:
    guest.behave("while :; do sleep 1; done")
    supervisor = guest.supervise()
    left = guest.number("run/extended/agent.pid")
    supervisor.kill()
    supervisor.wait(30)
    assert not is_gone(left)
    guest.supervise()
    until(lambda: is_gone(left), guest.log)
    until(lambda: guest.number("run/extended/agent.pid") not in (0, left), guest.log)


def test_agents_that_are_killed_early_leave_no_log_readers(guest: Guest) -> None:
    # Such an agent leaves the reader of a pipe that no writer has opened.
    guest.change('</dev/null >"$run/log" 2>&1 &', "</dev/null >/dev/null 2>&1 &")
    guest.supervise()
    guest.kill_agent()
    guest.kill_agent()
    until(lambda: len(guest.processes()) <= 3, lambda: f"left: {guest.processes()}")


def test_only_a_few_log_lines_are_kept(guest: Guest) -> None:
    guest.behave(f"seq 1 190 >&2; {SLEEPS}")
    guest.supervise()
    until(lambda: "190" in guest.lines("run/extended/last-words"), guest.log)
    assert len(guest.lines("run/extended/last-words")) <= 20

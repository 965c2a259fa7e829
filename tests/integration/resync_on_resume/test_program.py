"""The program, started as systemd does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.fakes.fleet import Profile
from tests.support.resync_service import PROGRAM, ServiceProcess, package_parent
from tests.support.until import until

SECOND_NS = 1_000_000_000
BEHIND = Profile(offset_ns=-20 * SECOND_NS)
LATER = "[watch]\nlook_at_start = no\n"
# libvirt's test driver simulates a hypervisor in the client's process, with one running guest.
REAL = "[watch]\nuris = test:///default\n  qemu+unix:///system?socket=/nonexistent/libvirt-sock\n"

# The program must exit without waiting this long for a silent agent.
LONG_TIMEOUT = "[resync]\ntimeout = 60\n"
EXIT_SECONDS = 10.0
QUIET_SECONDS = 2.0
MOST_RESIDENT_KIB = 40 * 1024


def run(*options: str, program: Sequence[str] = PROGRAM, **environment: str) -> tuple[int, str]:
    """Run the program and return its exit status and its output."""
    done = subprocess.run(
        [*program, *options],
        cwd=package_parent(),
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr.replace("qga-resync-on-resume: ", "", 1)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "given"
    path.write_text(REAL)
    return path


# -------------------------------------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize("check", [(), ("--check-config",)])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[wach]\n", "FILE: unknown section [wach]; expected one of [watch], [resync], [metrics]"),
        ("uris = x\n", "cannot read 'FILE': File contains no section headers."),
    ],
)
def test_an_invalid_configuration_is_reported_in_one_sentence(
    tmp_path: Path, config: Path, text: str, message: str, check: tuple[str, ...]
) -> None:
    config.write_text(text)
    status, output = run("--config", str(config), "--lock", str(tmp_path / "lock"), *check)
    assert (status, output.count("\n")) == (78, 1)
    assert output.startswith(message.replace("FILE", str(config)))
    assert not (tmp_path / "lock").exists()


def test_each_failure_to_start_is_reported_in_one_sentence(tmp_path: Path, config: Path) -> None:
    assert run("--config", str(config), "--check-config") == (0, "")
    assert run("--config", "/none/conf") == (78, "cannot read '/none/conf': No such file or directory\n")
    assert run("--nonsense") == (64, "unrecognized arguments: --nonsense\n")
    assert "--check-config" in run("--help")[1]

    status, output = run("--config", str(config), "--lock", str(config / "lock"))
    assert status == 73
    assert output.startswith(f"cannot create the lock '{config}/lock': ")

    # -S excludes the directories of libvirt-python.
    isolated = (sys.executable, "-E", "-s", "-S", "-m", "resync_on_resume")
    status, output = run("--config", str(config), "--lock", str(tmp_path / "lock"), program=isolated)
    assert (status, output.count("\n")) == (69, 1)
    assert f"libvirt-python cannot be imported by {sys.executable}: " in output
    assert "install python3-libvirt" in output


def test_a_second_service_names_the_process_of_the_first_which_goes_on(tmp_path: Path, config: Path) -> None:
    with ServiceProcess(tmp_path, LATER, {"web1": BEHIND}) as service:
        service.wait_for("watching")
        holder = f"process {service.process.pid} holds {service.lock}"
        refusal = 75, f"another resync-on-resume service is already running: {holder}\n"
        assert run("--config", str(config), "--lock", str(service.lock)) == refusal
        assert run("--config", str(config), RUNTIME_DIRECTORY=str(service.lock.parent)) == refusal
        service.ask("resume", ["web1"])
        service.wait_for("resync")
        assert service.stop() == 0


# ------------------------------------------------------------------------------------------------------------- its life


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_at_once_with_status_0_and_the_metrics_are_written(
    tmp_path: Path, number: signal.Signals
) -> None:
    metrics = tmp_path / "qga.prom"
    agents = dict.fromkeys(("web1", "web2"), BEHIND)
    with ServiceProcess(tmp_path, f"{LATER}{LONG_TIMEOUT}[metrics]\nfile = {metrics}\n", agents) as service:
        service.wait_for("watching")
        service.ask("silence", "web2")
        service.ask("resume", ["web1", "web2"])
        service.wait_for("resync")
        until(lambda: service.ask("is_asked", "web2"), "the silent guest was not asked")
        service.process.send_signal(number)
        assert service.process.wait(EXIT_SECONDS) == 0
        assert [line.fields["guest"] for line in service.lines("resync")] == ["web1"]
    assert 'qga_resync_total{cause="resumed",result="corrected",code=""} 1\n' in metrics.read_text()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A stand-in for systemd's notification socket (sd_notify(3))."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(20)
        yield listener


def test_systemd_is_notified_of_readiness_status_watchdog_and_stopping(tmp_path: Path, manager: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "600000"}
    with ServiceProcess(tmp_path, REAL, environment=environment) as service:
        received = [manager.recv(1000)]
        while b"READY=1" not in received or received.count(b"WATCHDOG=1") < 3:
            received.append(manager.recv(1000))
        # Both have answered: one is watched, and one refuses.
        assert {line.fields["uri"] for line in service.lines("watching") + service.lines("lost")} == {
            "test:///default",
            "qemu+unix:///system?socket=/nonexistent/libvirt-sock",
        }
        assert service.stop() == 0
        manager.settimeout(0.1)
        while received[-1] != b"STOPPING=1":
            received.append(manager.recv(1000))
    assert received.count(b"READY=1") == 1
    assert b"STATUS=watching 1 of 2 hypervisors" in received[: received.index(b"READY=1")]


def test_an_idle_service_uses_almost_no_resources(tmp_path: Path) -> None:
    # Twice: the second run reads the compiled code of the first, as on a hypervisor.
    for _time in range(2):
        with ServiceProcess(tmp_path, f"{REAL}[metrics]\nfile = {tmp_path}/qga.prom\n") as service:
            service.wait_for("watching")
            service.wait_for("lost")
            until((tmp_path / "qga.prom").exists, "the metrics were not written")
            woken, busy = service.wakeups(), service.cpu_seconds()
            time.sleep(QUIET_SECONDS)
            woken, busy = service.wakeups() - woken, service.cpu_seconds() - busy
            resident_kib = service.resident_kib()
            assert service.stop() == 0
        (tmp_path / "qga.prom").unlink()
    assert resident_kib <= MOST_RESIDENT_KIB
    # Only the retries of the absent hypervisor wake the process.
    assert woken <= 10 * QUIET_SECONDS
    assert busy <= 0.05 * QUIET_SECONDS

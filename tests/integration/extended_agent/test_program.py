"""The program as it runs in a guest. guest-update-time is always blocked here, because the clock is the real one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes.socket_server import listen_unix
from tests.support.agent_client import Client
from tests.support.extended_agent import package_parent
from tests.support.until import until

COMMAND = [sys.executable, "-E", "-s", "-m", "qemu_ga_extended"]
SAFE = "--block-rpcs=guest-update-time"


def run(*options: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, SAFE, *options],
        cwd=package_parent(),
        env={"QGA_EXTENDED_CONF": "/dev/null", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@contextmanager
def running(directory: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    path = directory / "agent.sock"
    process = subprocess.Popen(
        [*COMMAND, SAFE, "-m", "unix-listen", "-p", str(path), "--stock-path", str(directory / "none"), *options],
        cwd=package_parent(),
        env={"QGA_EXTENDED_CONF": "/dev/null"},
    )
    try:
        until(lambda: path.exists() or process.poll() is not None, "it does not listen")
        yield process
    finally:
        process.kill()
        process.wait()


def test_version_and_help() -> None:
    assert run("-V").stdout == "qemu-ga-extended 1.0.0\n"
    assert "--stock-path" in run("-h").stdout


def test_a_dump_shows_the_configuration_and_can_be_read(tmp_path: Path) -> None:
    dump = run("-D", "-m", "unix-listen", "-p", "/x", "-t", "/state", "-v", "-b", "guest-exec")
    assert dump.returncode == 0
    assert "block-rpcs=guest-exec,guest-update-time\n" in dump.stdout
    (tmp_path / "conf").write_text(dump.stdout)
    assert run("-D", "-c", str(tmp_path / "conf")).stdout == dump.stdout
    assert run("-D", environment={"QGA_EXTENDED_CONF": str(tmp_path / "conf")}).stdout == dump.stdout


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--nonsense",), 2, "unrecognized arguments: --nonsense"),
        (("-m", "carrier-pigeon"), 2, "expects one of virtio-serial"),
        (("-m", "unix-listen"), 2, "--path is required"),
        (("-d",), 2, "service manager"),
        (("-c", "/nonexistent"), 2, "'/nonexistent' cannot be read: No such file or directory"),
        (("-p", "/nonexistent"), 1, "the port to the host cannot be used: No such file or directory"),
        (("-m", "unix-listen", "-p", "/dev/null"), 1, "a file that is not a socket is there"),
        (("-m", "vsock-listen", "-p", "here"), 1, "cid:port"),
        (("-m", "unix-listen", "-p", "/nonexistent/sock", "--user", "no-such"), 1, "the user 'no-such' does not exist"),
        (("-l", "/nonexistent/log"), 1, "/nonexistent/log: No such file or directory"),
    ],
)
def test_an_error_is_one_sentence(options: tuple[str, ...], status: int, message: str) -> None:
    done = run(*options)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("qemu-ga-extended: ")


def test_a_configuration_or_socket_that_others_could_have_created_is_rejected(
    tmp_path: Path,
) -> None:
    configuration, path = tmp_path / "agent.conf", tmp_path / "stock.sock"
    configuration.write_text("[general]\nallow-rpcs=guest-exec\n")
    configuration.chmod(0o666)
    with listen_unix(path):
        path.chmod(0o666)
        with_socket = run("-m", "unix-listen", "-p", str(tmp_path / "agent.sock"), "--stock-path", str(path))
    for done, status, what, writable in (
        (run("-D", "-c", str(configuration)), 2, "the configuration", configuration),
        (with_socket, 1, "the stock agent's socket", path),
    ):
        problem = f"{what} was rejected: '{writable}' is writable by other users (mode 0666): run chmod go-w on it"
        assert (done.returncode, done.stderr) == (status, f"qemu-ga-extended: {problem}\n")


@pytest.mark.parametrize("option", ["--logfile", "--pidfile"])
def test_a_link_that_others_can_have_created_is_not_followed(tmp_path: Path, option: str) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "victim").write_text("untouched")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    done = run(option, str(tmp_path / "link"), "-m", "unix-listen", "-p", str(tmp_path / "agent.sock"))
    assert done.returncode == 1
    assert f"{tmp_path}/link: Too many levels of symbolic links" in done.stderr
    assert (tmp_path / "victim").read_text() == "untouched"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path, "-f", str(tmp_path / "pid")) as process:
        assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
        process.send_signal(number)
        assert process.wait(10) == 0
    assert not (tmp_path / "pid").exists()


def test_sighup_reopens_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(tmp_path, "-v", "-l", str(log)) as process, Client(str(tmp_path / "agent.sock")) as client:
        client.execute("guest-ping")
        log.rename(tmp_path / "log.1")
        process.send_signal(signal.SIGHUP)
        until(lambda: client.execute("guest-ping") and log.exists(), "it has no new log")
        client.execute("guest-ping")
        assert "answered guest-ping" in log.read_text()
    assert log.stat().st_mode & 0o077 == 0


def test_it_takes_a_socket_from_systemd_and_reports_that_it_is_ready(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        listener.bind(str(tmp_path / "activated.sock"))
        listener.listen(1)
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(15)
        # systemd sets LISTEN_PID to the PID of the process that it starts; a shell script does the same here.
        script = 'exec env LISTEN_PID=$$ "$@" 3<&0'
        process = subprocess.Popen(
            ["sh", "-c", script, "sh", *COMMAND, SAFE, "--stock-path", str(tmp_path / "none")],
            cwd=package_parent(),
            env={
                "QGA_EXTENDED_CONF": "/dev/null",
                "LISTEN_FDS": "1",
                "NOTIFY_SOCKET": str(tmp_path / "notify.sock"),
                "WATCHDOG_USEC": "200000",
            },
            stdin=listener,
        )
        try:
            assert [manager.recv(100) for _message in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
            with Client(str(tmp_path / "activated.sock")) as client:
                assert client.execute("guest-ping") == {"return": {}}
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()

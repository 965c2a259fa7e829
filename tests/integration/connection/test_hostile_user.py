"""The connection plugin over a real stock agent, while another user of the guest attacks it.

The attacker searches all argument lists for names in the places that the connection uses, tries to create each name
first, and forges results there. The agent is restarted during the command, so that the connection has to find the
result again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.connection.playbooks import PATIENCE_S, run
from tests.processes.stock_agent import StockAgent
from tests.support.until import meanwhile, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = 65534
PLACES = ("first", "second")
# The user's own shell script would be too slow, so it is Python: one that every user may run.
PYTHON = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(path)), sys.executable)

# PLACE VICTIM: forge whatever is named, in any argument list, below the place. The victim is a process of another user.
# New processes are looked at as soon as they are there: their numbers follow each other.
ATTACK = r"""
import os, re, sys

place, victim = sys.argv[1:]
os.umask(0)
named = re.compile(re.escape(place).encode() + rb"/[A-Za-z0-9._/-]+")
loadavg = os.open("/proc/loadavg", os.O_RDONLY)
names = set()

def newest():
    return int(os.pread(loadavg, 100, 0).split()[-1])

def forge(name):
    # Include any secret in the name.
    for other in re.findall("[0-9a-f]{32}", name) + ["1.begun", "1.done.0.kept", "1.pid." + victim, "1.pid.." + victim]:
        try:
            os.close(os.open(os.path.join(name, other), os.O_CREAT | os.O_WRONLY, 0o666))
        except OSError:
            pass
    try:
        with open(os.path.join(name, "1.out"), "w") as file:
            file.write("forged")
    except OSError:
        pass

seen = newest()
print("ready", flush=True)
while True:
    last = newest()
    # A new process may not have called exec yet, so check the last ones again.
    for process in range(max(seen - 4, 2), last + 3):
        try:
            file = os.open("/proc/%d/cmdline" % process, os.O_RDONLY)
        except OSError:
            continue
        try:
            arguments = os.read(file, 131072)
        except OSError:
            arguments = b""
        os.close(file)
        for name in named.findall(arguments):
            name = name.decode()
            if name in names or name.count("/") > place.count("/") + 1:
                continue
            names.add(name)
            try:
                os.mkdir(name)
            except OSError:
                continue
            forge(name)
    seen = last
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory with two subdirectories that everyone can write to, like /tmp."""
    with tempfile.TemporaryDirectory(prefix="qga-place-", dir="/var/tmp") as name:  # other users can enter it there
        os.chmod(name, 0o755)  # noqa: S103  # other users must be able to enter it
        for each in PLACES:
            os.mkdir(f"{name}/{each}")
            os.chmod(f"{name}/{each}", 0o1777)  # noqa: S103  # like /tmp
        yield Path(name)


@contextmanager
def attacked(place: Path, victim: int) -> Iterator[None]:
    # Only in the first place. The command uses the second one, but the scripts search the first one, too.
    with subprocess.Popen(
        [PYTHON, "-I", "-c", ATTACK, str(place / PLACES[0]), str(victim)],
        stdout=subprocess.PIPE,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
    ) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"ready\n"
            yield
        finally:
            attacker.kill()


@contextmanager
def victim(place: Path) -> Iterator[None]:
    """A process of root's that the attacker tries to get killed."""
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL) as process:
        try:
            with attacked(place, process.pid):
                yield
            assert process.poll() is None
        finally:
            process.kill()


def in_places(place: Path) -> str:
    return json.dumps({"ansible_qga_guest_directories": [str(place / name) for name in PLACES]})


@pytest.mark.parametrize("attempt", [0, pytest.param(1, marks=pytest.mark.thorough)])
def test_another_user_cannot_forge_the_result_of_a_command(place: Path, tmp_path: Path, attempt: int) -> None:  # noqa: ARG001
    on, off = tmp_path / "on", tmp_path / "off"
    command = f": >{on}; until [ -e {off} ]; do sleep 0.1; done; echo real; exit 7"
    task = {"name": "raw", "ansible.builtin.raw": command, "failed_when": False}
    with (
        StockAgent() as agent,
        victim(place),
        meanwhile(lambda: run(agent.socket, tmp_path, [task], "-e", in_places(place))) as done,
    ):
        until(on.exists, "the command did not start", PATIENCE_S)
        agent.restart()
        off.touch()
    result = done[0].result("raw")
    assert (result.get("stdout"), result.get("rc")) == ("real\n", 7), done[0].output


def test_killing_a_command_kills_no_other_process(place: Path, tmp_path: Path) -> None:
    task = {"name": "raw", "ansible.builtin.raw": f"echo $$ >{tmp_path}/pid; exec sleep 1000"}
    with StockAgent() as agent, victim(place):
        done = run(agent.socket, tmp_path, [task], "-e", in_places(place), "-e", "ansible_qga_exec_timeout=2")
    assert "[exec_timeout]" in done.result("raw")["msg"]
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()

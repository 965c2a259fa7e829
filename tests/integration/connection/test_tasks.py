"""Tasks over a real stock agent: results, failures and logs."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ansible.release
import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.playbook.play_context import PlayContext
from ansible_collections.qemu.guest_agent.plugins.connection import qga

from tests.fakes.kinds import RHEL_BLOCKED
from tests.integration.connection.playbooks import BECOME_SHIM, PASSWORD, PATIENCE_S, PING, SHORT_S, failure, run
from tests.processes.ansible_run import CONNECTION, every_core
from tests.processes.state import is_gone
from tests.processes.stock_agent import StockAgent
from tests.support.collection import BUILD, install
from tests.support.tiers import quick
from tests.support.until import meanwhile, until
from tests.vm.lock import locked

# The directory of compiled code. WRITES makes Python write it even if the test run's environment forbids that.
CODE = f"qga-code-{os.geteuid()}"
WRITES = {"PYTHONDONTWRITEBYTECODE": ""}


@every_core
def test_compiled_code_of_modules_is_cached_and_used(agent: StockAgent, tmp_path: Path, core: str) -> None:
    tasks = [{"name": name, "ansible.builtin.ping": {}, "environment": WRITES} for name in ("first", "second")]
    done = run(agent.socket, tmp_path, tasks, core=core)
    assert done.status == 0, done.output
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept" / CODE).iterdir()}
    assert len(kept) > 20
    more = run(agent.socket, tmp_path, [{**tasks[0], "name": "third"}], core=core)
    assert more.status == 0, more.output
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept" / CODE).iterdir()} == kept


# ansible-core's own tests of connection plugins run where its source distribution lies.


def integration_targets() -> Path:
    """Return the directory of the integration targets of this ansible-core, which is downloaded once."""
    version = ansible.release.__version__
    unpacked = BUILD / "core_targets" / version
    with locked(BUILD / "core_targets.lock"):
        if not unpacked.exists():
            with tempfile.TemporaryDirectory(dir=BUILD) as directory:
                pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "ansible-core"]
                command = [*pip, "--dest", directory, f"ansible-core=={version}"]
                subprocess.run(command, check=True, capture_output=True)
                (archive,) = Path(directory).glob("ansible_core-*.tar.gz")
                with tarfile.open(archive) as content:
                    wanted = [each for each in content if "/test/integration/targets/connection" in each.name]
                    content.extractall(Path(directory) / "unpacked", wanted, filter="data")
                unpacked.parent.mkdir(exist_ok=True)
                (Path(directory) / "unpacked" / f"ansible_core-{version}").rename(unpacked)
    return unpacked / "test" / "integration" / "targets"


def run_connection_target(inventory: Mapping[str, Mapping[str, str]], local_tmp: Path, remote_tmp: str) -> str:
    """Run the target ``connection`` on hosts with these variables, and return its output.

    :raises AssertionError: it failed
    """
    with tempfile.TemporaryDirectory() as directory:
        hosts = Path(directory) / "inventory"
        lines = [
            " ".join((name, *(f"{key}={value}" for key, value in values.items()))) for name, values in inventory.items()
        ]
        hosts.write_text("[guests]\n" + "\n".join(lines) + "\n")
        variables = {"target_hosts": "guests", "action_prefix": "", "local_tmp": local_tmp, "remote_tmp": remote_tmp}
        done = subprocess.run(
            ["bash", "./test.sh", *(word for name, value in variables.items() for word in ("-e", f"{name}={value}"))],
            cwd=integration_targets() / "connection",
            env={
                **os.environ,
                "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
                "INVENTORY": str(hosts),
                "ANSIBLE_COLLECTIONS_PATH": str(install()),
                "ANSIBLE_LOCALHOST_WARNING": "false",
                # The tests use files with Chinese names.
                "LC_ALL": "C.UTF-8",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.thorough
def test_ansibles_own_test_of_connection_plugins_passes(agent: StockAgent, tmp_path: Path) -> None:
    variables = {
        "ansible_connection": CONNECTION,
        "ansible_qga_socket": agent.socket,
        "ansible_qga_guest_directories": str(tmp_path),
        "ansible_python_interpreter": sys.executable,
    }
    hosts = {f"guest-{value}": {**variables, "ansible_pipelining": value} for value in ("true", "false")}
    output = run_connection_target(hosts, tmp_path / "local", str(tmp_path / "remote"))
    assert output.count("wait_for_connection") >= 1


@every_core
def test_privilege_escalation_works_with_a_password(
    agent: StockAgent, tmp_path: Path, become: dict[str, Any], core: str
) -> None:
    free = tmp_path / "free"
    free.write_text(BECOME_SHIM.replace('if [ "$prompt" ]', "if false"))
    free.chmod(0o755)
    tasks = [
        {**PING[0], "vars": become},
        {"name": "raw", "ansible.builtin.raw": "echo out; echo err >&2", "vars": become},
        {"name": "file", "ansible.builtin.command": "echo done", "vars": {**become, "ansible_pipelining": False}},
        {**PING[0], "name": "not asked", "vars": {**become, "ansible_become_exe": str(free)}},
    ]
    done = run(agent.socket, tmp_path, tasks, "-vvvvv", core=core)
    assert done.status == 0, done.output
    assert "out" in done.result("raw")["stdout"]
    assert done.result("raw")["stderr"] == "a lecture\nerr\n"
    assert done.result("file")["stdout"] == "done"
    assert PASSWORD not in done.output


def test_a_wrong_password_fails_the_task(agent: StockAgent, tmp_path: Path, become: dict[str, Any]) -> None:
    task = {**PING[0], "vars": {**become, "ansible_become_password": "no"}}
    outcome, message = failure(run(agent.socket, tmp_path, [task]))
    assert outcome == "failed"
    assert "password was not accepted" in message


def test_after_the_controller_is_killed_the_command_ends(
    tmp_path: Path, become: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller is killed between the prompt and the answer, with all its own processes.

    The stock agent may exit, too: it does if a client disconnects before it has read its reply.
    """
    shim, asked = Path(become["ansible_become_exe"]), tmp_path / "asked"
    shim.write_text(shim.read_text().replace("IFS= read", f"echo $$ >{asked}; exec sleep 1000; IFS= read"))
    task = {**PING[0], "vars": become}
    timeout = ("-e", f"ansible_qga_become_success_timeout={SHORT_S}")
    with StockAgent() as agent:
        # Ansible's workers have their own sessions.
        monkeypatch.setenv("QGA_TEST", str(tmp_path))
        with meanwhile(lambda: run(agent.socket, tmp_path, [task], *timeout)):
            until(asked.exists, "there was no prompt", PATIENCE_S)
            for path in Path("/proc").glob("[0-9]*/environ"):
                with contextlib.suppress(OSError):
                    if f"QGA_TEST={tmp_path}\0".encode() in path.read_bytes():
                        os.kill(int(path.parent.name), signal.SIGKILL)
        (runner,) = (tmp_path / "kept").glob("*/1.runner.*")
        until(lambda: is_gone(int(runner.suffix[1:])), "the script still runs")
        until(lambda: is_gone(int(asked.read_text())), "the command still runs")
        assert list((tmp_path / "kept").glob("*/1.done.*"))


# It is in the input and output of tasks, and must not be in any log.
SECRET = "hunter2-never-in-a-log"  # noqa: S105  # not a real one


def test_commands_that_rhel_disables_make_the_host_unreachable_with_a_hint(tmp_path: Path) -> None:
    with StockAgent(block_rpcs=RHEL_BLOCKED - {"guest-file-seek", "guest-file-flush"}) as agent:
        outcome, message = failure(run(agent.socket, tmp_path, PING))
    assert outcome == "unreachable"
    assert "has disabled guest-exec, guest-exec-status, guest-file-open" in message
    assert "/etc/sysconfig/qemu-ga" in message


@every_core
def test_nothing_secret_is_in_the_log_at_any_verbosity(agent: StockAgent, tmp_path: Path, core: str) -> None:
    (tmp_path / "file").write_text(SECRET)
    secret = f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/file') }}}}"  # Ansible logs the source of a task
    there = str(tmp_path / "there")
    tasks = [
        {"name": "raw", "ansible.builtin.raw": f"echo {secret}; echo {secret} >&2", "no_log": True},
        {"name": "stdin", "ansible.builtin.command": {"cmd": "cat", "stdin": secret}, "no_log": True},
        {"name": "copy", "ansible.builtin.copy": {"src": str(tmp_path / "file"), "dest": there}, "no_log": True},
        {"name": "fetch", "ansible.builtin.fetch": {"src": there, "dest": str(tmp_path / "back")}, "no_log": True},
        {"name": "fail", "ansible.builtin.raw": f"echo {secret}; exit 1", "no_log": True, "ignore_errors": True},
    ]
    done = run(agent.socket, tmp_path, tasks, "-vvvvvv", core=core)
    assert done.status == 0, done.output
    assert "guest-exec took " in done.output
    assert SECRET not in done.output


@pytest.mark.thorough
def test_a_command_is_killed_after_the_tasks_timeout(agent: StockAgent, tmp_path: Path) -> None:
    task = {"name": "sleep", "ansible.builtin.raw": f"echo $$ >{tmp_path}/pid; exec sleep 1000", "timeout": SHORT_S}
    assert run(agent.socket, tmp_path, [task]).status != 0
    until(lambda: is_gone(int((tmp_path / "pid").read_text())), "the command still runs")


@pytest.mark.parametrize("umask", quick([0o077, 0, 0o027], [0o077]))
def test_files_have_the_modes_of_a_login_session(tmp_path: Path, umask: int) -> None:
    (tmp_path / "small").write_text("small")
    (tmp_path / "big").write_bytes(os.urandom(300_000))
    there = tmp_path / "there"
    become = {"become": True, "become_method": "ansible.builtin.su", "become_user": "root"}
    made = "umask; : >{0}; mkdir {0}.d"
    tasks = [
        {"name": "directory", "ansible.builtin.file": {"path": str(there), "state": "directory"}},
        {"name": "small", "ansible.builtin.copy": {"src": f"{tmp_path}/small", "dest": f"{there}/small"}},
        {"name": "big", "ansible.builtin.copy": {"src": f"{tmp_path}/big", "dest": f"{there}/big"}},
        {"name": "raw", "ansible.builtin.raw": made.format(there / "raw")},
        {"name": "module", "ansible.builtin.shell": made.format(there / "module")},
        {"name": "file", "ansible.builtin.shell": made.format(there / "file"), "vars": {"ansible_pipelining": False}},
        {"name": "become", "ansible.builtin.shell": made.format(there / "become"), **become},
    ]
    with StockAgent(umask=umask) as agent:
        done = run(agent.socket, tmp_path, tasks)
    assert done.status == 0, done.output
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there, *there.iterdir())}
    assert len(modes) == 11
    assert modes == {name: 0o755 if name == "there" or name.endswith(".d") else 0o644 for name in modes}


@pytest.mark.parametrize("size", [10, 800_000])
def test_commands_and_files_may_have_any_bytes(
    agent: StockAgent, tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, here, back = (tmp_path / name for name in ("kept", "here", "back"))
    kept.mkdir()
    content = os.urandom(size)
    here.write_bytes(content)
    name = os.fsdecode(b"caf\xe9")
    path = tmp_path / name / name
    path.parent.mkdir()
    # Without a playbook, which must be UTF-8.
    given = {name: option.get("default") for name, option in yaml.safe_load(qga.DOCUMENTATION)["options"].items()}
    given |= {"socket": agent.socket, "guest_directories": [str(kept)], "exec_timeout": 20}
    monkeypatch.setattr(qga.Connection, "get_option", lambda _self, name, **_others: given[name])
    connection = qga.Connection(PlayContext(), "/dev/null")
    command = f"printf %s '{name}'\n# {'x' * (size // 10)}"
    assert connection.exec_command(command, sudoable=False) == (0, os.fsencode(name), b"")
    connection.put_file(str(here), str(path))
    assert list(path.parent.iterdir()) == [path]
    connection.fetch_file(str(path), str(back))
    assert back.read_bytes() == content
    path.unlink()
    with pytest.raises(AnsibleError, match=r"no file '.*/caf\\udce9' in the guest \[file_missing\]"):
        connection.fetch_file(str(path), str(back))
    connection.close()
    assert list(kept.iterdir()) == []

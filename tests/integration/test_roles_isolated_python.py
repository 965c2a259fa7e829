"""The system's Python, which the roles run as root, imports no file from the working directory. That may be the home of
the user as whom Ansible logs in.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.processes.ansible_run import every_core
from tests.processes.printing_guest import PrintingGuest
from tests.support.collection import ROOT
from tests.support.role_run import DESCRIBE, PYTHON, described, every_role

FOUND = "version=3.11\nchannel\npython\nstock\nuser\nlibvirt\nfront\n"
SHIPPING = [("extended_agent", "present"), ("resync_on_resume", "present"), ("resync_on_resume", "absent")]


@every_core
@pytest.mark.parametrize(("role", "state"), SHIPPING)
@pytest.mark.parametrize("name", ["json", "pathlib", "typing"])
def test_no_file_of_the_working_directory_is_imported(
    core: str, role: str, state: str, name: str, tmp_path: Path
) -> None:
    # With a connection to this machine, tasks run where the playbook is.
    canary = tmp_path / "canary"
    (tmp_path / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')\n", encoding="utf-8")
    guest = PrintingGuest(tmp_path, {DESCRIBE: described(), PYTHON: FOUND, "systemctl": FOUND}, runs_modules=True)
    run = guest.run_role(role, "--check", "-e", f"{role}_state={state}", core=core)
    (shipped,) = (task for task in run.tasks if task.task.endswith(": Copy files"))
    assert shipped.result["rc"] == 0, run.output
    assert not canary.exists()


# Characters between Python and its first option in a template or a list of arguments.
PUNCTUATION = str.maketrans("", "", "\"'{}[],")
OWN = {"qemu_ga_extended", "resync_on_resume"}


def runs_of_python(line: str) -> list[list[str]]:
    """Return the words after each Python in the line that has an option."""
    rests = re.split(r"\$python\b|\b(?:\w+_)?python3?\b", line)[1:]
    words = [rest.translate(PUNCTUATION).removeprefix(" | quote").split() for rest in rests]
    return [run for run in words if run and re.fullmatch("-[A-Za-z]", run[0])]


@every_role
def test_python_is_isolated_wherever_a_role_runs_it(role: str) -> None:
    directories = [ROOT / "roles" / name for name in (role, "qga_deployment")]
    parts = ("tasks/*", "templates/*", "vars/*", "files/*.sh")
    files = [path for directory in directories for part in parts for path in directory.glob(part)]
    lines = [line for path in files for line in path.read_text().splitlines()]
    runs = [run for line in lines if not line.lstrip().startswith("#") for run in runs_of_python(line)]
    assert len(runs) >= 5
    # The directory of the role's own package is the working directory, and root's.
    assert [run for run in runs if run[0] != "-I" and not OWN & set(run)] == []

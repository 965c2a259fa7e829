"""Helpers for tests of roles: a guest's answers, and results of tasks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.processes.ansible_run import PlaybookRun

ROLES = ("extended_agent", "resync_on_resume")
# Words in the scripts that describe the system, and that check its Python's version.
DESCRIBE = "os-release"
PYTHON = "sys.version_info"
# The tasks that refuse a system.
VALIDATE = {"extended_agent": "Validate the guest and the variables", "resync_on_resume": "Validate the host"}

every_role = pytest.mark.parametrize("role", ROLES)


def described(**changed: str) -> str:
    """Return the answers of a Debian guest, with changes."""
    answers = {"uid": "0", "init": "systemd", "families": "debian", "version": "12", "name": "Debian", "python": "full"}
    return "".join(f"{key}={value}\n" for key, value in {**answers, **changed}.items())


def result_of(run: PlaybookRun, task: str) -> dict[str, Any]:
    """Return the result of the one task of that name, whichever role has it."""
    (record,) = (record for record in run.tasks if record.task.rpartition(" : ")[2] == task)
    return record.result

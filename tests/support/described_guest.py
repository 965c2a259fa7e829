# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The roles on guests that print what a test has them print."""

from __future__ import annotations

from typing import Any

import pytest

from .ansible_run import PlaybookRun

DESCRIBE = "os-release"


PYTHON = "sys.version_info"


# What no error of Ansible's own says.
UNCLEAR = ("NoneType", "undefined", "Traceback", "StopIteration", "Unexpected")


PLAIN, LATER = "/usr/bin/python3", "/usr/bin/python3.11"


every_role = pytest.mark.parametrize("role", ["extended_agent", "resync_on_resume"])


def described(**changed: str) -> str:
    """What a Debian guest says of itself, but for what is changed."""
    said = {"uid": "0", "init": "systemd", "families": "debian", "version": "12", "name": "Debian", "python": "full"}
    return "".join(f"{key}={value}\n" for key, value in {**said, **changed}.items())


def result_of(run: PlaybookRun, task: str) -> dict[str, Any]:
    """The result of the one task of that name, whichever role has it."""
    (record,) = (record for record in run.tasks if record.task.rpartition(" : ")[2] == task)
    return record.result

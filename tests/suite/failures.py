# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a log tells why it ended badly."""

from __future__ import annotations

import re

# pytest: the error of each failed test, and the summary that names them all. Molecule's lines have more blanks.
_OF_PYTEST = re.compile(r"E   |FAILED \S|ERROR \S")
# Ansible 2.19: the beginning of what it says of a task that failed.
_OF_ANSIBLE = re.compile(r"\[ERROR\]: ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Molecule draws a box around what Ansible writes.
_BOX = re.compile(r"\s*│ ?")
_WIDTH = 240
# Enough for some failed tests, and for the end of what another tool says. More is in the log.
_LINES = 24


def failures(log: str) -> list[str]:
    """The lines that pytest says why with, the last ones if there are many; without any, what Ansible says of the last
    task that failed; without that, the log's last lines.
    """
    lines = [_BOX.sub("", line.rstrip(), count=1) for line in _COLOUR.sub("", log).splitlines()]
    told = [line for line in lines if _OF_PYTEST.match(line)][-_LINES:]
    if not told:
        lines = [line for line in lines if line]
        begins = [number for number, line in enumerate(lines) if _OF_ANSIBLE.match(line)]
        told = lines[begins[-1] :][:_LINES] if begins else lines[-_LINES:]
    return [line[:_WIDTH] for line in told]

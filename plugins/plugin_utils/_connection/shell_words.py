# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands as Ansible writes them for a shell behind SSH, and what of that is of use to other connections."""

from __future__ import annotations

import shlex
from typing import NamedTuple

_SHELLS = frozenset(("sh", "ash", "bash", "dash", "ksh", "zsh"))

# Behind SSH it keeps the last output from getting lost (ansible/plugins/action/__init__.py, ansible-core 2.19).
_AGAINST_A_RACE = " && sleep 0"


class ShellCommand(NamedTuple):
    shell: str
    script: str


def unwrapped(command: str, shell: str) -> ShellCommand:
    """What a command that ``shell`` would run comes to: of a mere call of another shell, that one and its script.

    In a small guest each program takes longer to start than all that goes over the wire for it.
    """
    # Of no other form, so that nothing needs to be expanded by the outer shell.
    inner, _option, _script = command.partition(" -c ")
    if not inner.startswith("/") or inner.rpartition("/")[2] not in _SHELLS:
        return ShellCommand(shell, command)
    try:
        words = shlex.split(command)
    except ValueError:
        return ShellCommand(shell, command)
    if len(words) != len(("shell", "-c", "script")) or command != f"{inner} -c {shlex.quote(words[2])}":
        return ShellCommand(shell, command)
    script = words[2]
    if script.endswith(_AGAINST_A_RACE):
        script = script[: -len(_AGAINST_A_RACE)]
    return ShellCommand(inner, script)

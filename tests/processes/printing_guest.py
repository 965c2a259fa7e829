"""A guest that prints a test's text in place of running commands: a fake shell of a host on this machine.

It only runs the script that describes a system, with the test's os-release. So a role sees root on a system of any
kind, and changes nothing here. With ``runs_modules``, which is only for roles in check mode, it also runs modules.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.processes.ansible_run import PlaybookRun, run_tasks

# Colors would be terminal commands, too.
_SETTINGS = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"}

_SHELL = """#!/bin/sh
# {shell} -c COMMAND
case $2 in
{cases}
{modules}
true) exit 0 ;;
*) exit 1 ;;
esac
"""


# Ansible's command for a module that it sends through a pipe.
_MODULES = '*"&& sleep 0"*) exec /bin/sh -c "$2" ;;'


class PrintingGuest:
    """``printed`` maps words to texts. The guest prints the text of the first word that a command contains.
    ``statuses`` are exit statuses other than 0.
    """

    def __init__(
        self,
        directory: Path,
        printed: Mapping[str, str | bytes],
        statuses: Mapping[str, int] | None = None,
        runs_modules: bool = False,
    ) -> None:
        cases = []
        for number, (word, text) in enumerate(printed.items()):
            file = directory / f"printed-{number}"
            file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
            cases.append(
                f"*{shlex.quote(word)}*) cat {shlex.quote(str(file))}; exit {(statuses or {}).get(word, 0)} ;;"
            )
        self.shell = directory / "shell"
        modules = _MODULES if runs_modules else ""
        self.shell.write_text(_SHELL.format(shell=self.shell, cases="\n".join(cases), modules=modules))
        self.shell.chmod(0o755)

    def run_role(
        self,
        role: str,
        *arguments: str,
        core: str | None = None,
        tasks_from: str = "main",
        variables: Mapping[str, Any] | None = None,
        show: str = "",
    ) -> PlaybookRun:
        """Run a role of the collection, or one file of its tasks, on this guest and on a terminal. ``show`` is an
        expression that a task "Show" prints afterwards.
        """
        included = {"name": f"qemu.guest_agent.{role}", "tasks_from": tasks_from, "public": True}
        role_task = {"ansible.builtin.include_role": included, "vars": dict(variables or {})}
        show_task = {"name": "Show", "ansible.builtin.debug": {"msg": "{{ " + show + " }}"}}
        return run_tasks(
            [role_task, *([show_task] if show else [])],
            *("-i", "guest,"),
            *arguments,
            host="guest",
            environment={**_SETTINGS, "ANSIBLE_EXECUTABLE": str(self.shell)},
            core=core,
            on_terminal=True,
        )

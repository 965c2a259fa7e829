# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.shell_words import ShellCommand, unwrapped

SCRIPTS = ["true", "echo 'it''s' \"$HOME\" `id`", "a\nb", "\u4f60", "cd /; exit 3", "sh -c 'true && sleep 0'"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_call_of_a_shell_comes_to_its_script(script: str) -> None:
    command = f"/bin/bash -c {shlex.quote(script)}"
    assert unwrapped(command, "/bin/sh") == ShellCommand("/bin/bash", script)


def test_what_stands_against_a_race_of_sshs_is_left_out() -> None:
    command = "/bin/sh -c {}".format(shlex.quote("/usr/bin/python3 && sleep 0"))
    assert unwrapped(command, "/bin/ash") == ShellCommand("/bin/sh", "/usr/bin/python3")


@pytest.mark.parametrize(
    "command",
    [
        "",
        "true",
        "echo one && sleep 0",
        "/bin/sh",
        "/bin/sh -c",
        "/bin/sh -c true; true",
        "/bin/sh -c 'echo $0' word",
        '/bin/sh -c "$SCRIPT"',
        "/bin/sh -c $SCRIPT",
        "/bin/sh -c 'one' -c 'two'",
        "/bin/sh  -c 'one two'",
        "/bin/sh -c 'it never ends",
        "sh -c 'one two'",
        "X=1 /bin/sh -c 'one two'",
        "/usr/bin/python3 -c 'import this'",
        "/usr/bin/fish -c 'one two'",
    ],
)
def test_what_is_anything_else_stays_as_it_is(command: str) -> None:
    assert unwrapped(command, "/bin/sh") == ShellCommand("/bin/sh", command)

"""Hints are run as they are: by a shell, and by virsh where it can be."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.domains import not_found, not_running
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.virsh import unmistakable, virsh

SYSTEM = "qemu:///system"
UUID = "5fc1e6ba-8a29-4b0a-9a0c-3c2f7ce1a1d0"
NAMES = [
    "web1",
    "two words",
    "it's",
    'say "hi"',
    "$(reboot)",
    "a;b&c|d>e",
    "back`tick",
    "back\\slash",
    "*",
    "-c",
    "--all",
    "~root",
    "#1",
    "\u00fcber",
]
URIS = [
    "qemu:///session",
    "qemu+ssh://root@hv1/system",
    "qemu+unix:///system?socket=/run/my sock&mode=direct",
    "test:///default",
]


def words_of(command: str) -> list[str]:
    """What a program gets from a shell that runs what is between the backticks."""
    script = "printf '%s\\0' " + command.removeprefix("`").removesuffix("`")
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    return shell.stdout.split("\0")[:-1]


@pytest.mark.slow
class TestACommand:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_shell_gives_virsh_the_name_as_it_is(self, name: str) -> None:
        *head, domain = words_of(virsh(SYSTEM, "start", name))
        assert domain == name
        assert head == ["virsh", "start"] + ["--"] * name.startswith("-")

    @pytest.mark.parametrize("uri", URIS)
    def test_another_uri_than_virshs_own_is_named(self, uri: str) -> None:
        assert words_of(virsh(uri, "start", "web1")) == ["virsh", "-c", uri, "start", "web1"]

    @pytest.mark.parametrize("uri", [SYSTEM, ""])
    def test_virshs_own_is_not(self, uri: str) -> None:
        assert virsh(uri, "list --all") == "`virsh list --all`"

    @pytest.mark.skipif(shutil.which("virsh") is None, reason="virsh is not installed")
    @pytest.mark.parametrize("name", NAMES)
    def test_virsh_looks_for_a_domain_of_that_name(self, name: str) -> None:
        words = words_of(virsh("test:///default", "domstate --reason", name))
        said = subprocess.run(words, capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8"})
        assert f"failed to get domain '{name}'" in said.stderr


class TestADomainThatDoesNotRun:
    @pytest.mark.parametrize(
        ("state", "words", "hint"),
        [
            (3, "paused", "Run `virsh resume web1` first;"),
            (5, "shut off", "Run `virsh start web1` first;"),
            (6, "crashed", "Run `virsh reset web1`, or `virsh destroy web1` and `virsh start web1` first;"),
            (7, "suspended by its power management", "Run `virsh dompmwakeup web1` first;"),
            (4, "shutting down", "Wait until it has shut down, and start it again then;"),
            (0, "in no known state", "See what `virsh domstate --reason web1` shows, and run `virsh start web1` if"),
            (8, "not running", "See what `virsh domstate --reason web1` shows, and run `virsh start web1` if"),
        ],
    )
    def test_its_state_and_what_has_it_run_again(self, state: int, words: str, hint: str) -> None:
        error = not_running("web1", SYSTEM, state, UUID)
        assert error.code == "not_running"
        assert error.message == f"domain web1 at {SYSTEM} is {words}"
        assert error.hint.startswith(hint)
        assert error.hint.endswith("; an agent answers only while its guest runs.")

    @pytest.mark.parametrize("state", [0, 3, 5, 6, 7, 99])
    def test_each_command_is_quoted_and_has_the_uri(self, state: int) -> None:
        hint = not_running("my web", "qemu:///session", state, UUID).hint
        commands = re.findall(r"`([^`]*)`", hint)
        assert commands
        for command in commands:
            words = shlex.split(command)
            assert words[:3] == ["virsh", "-c", "qemu:///session"]
            assert words[-1] == "my web"

    @pytest.mark.parametrize("name", ["1", "007", "+7", " 7", "99999999999"])
    @pytest.mark.parametrize("state", [0, 3, 5, 6, 7, 99])
    def test_one_called_like_a_number_is_named_by_its_uuid(self, name: str, state: int) -> None:
        """virsh takes it for the number of a running domain, and would stop that one."""
        error = not_running(name, SYSTEM, state, UUID)
        assert error.message.startswith(f"domain {name} at {SYSTEM} is ")
        commands = re.findall(r"`([^`]*)`", error.hint)
        assert commands
        assert {shlex.split(command)[-1] for command in commands} == {UUID}

    @pytest.mark.parametrize("name", ["web1", "1a", "0x1", "-1", "1.0", "7 "])
    def test_every_other_one_is_named_by_its_name(self, name: str) -> None:
        assert unmistakable(name, UUID) == name

    @pytest.mark.skipif(shutil.which("virsh") is None, reason="virsh is not installed")
    @pytest.mark.parametrize(
        ("name", "is_number"), [("1", True), ("+1", True), (" 1", True), ("1 ", False), ("1a", False)]
    )
    def test_virsh_takes_such_a_name_for_a_number(self, name: str, is_number: bool) -> None:
        """The only domain of its test driver has the number 1."""
        words = ["virsh", "-c", "test:///default", "domstate", name]
        said = subprocess.run(words, capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8"})
        assert (said.returncode == 0) == is_number
        assert (unmistakable(name, UUID) == UUID) == is_number


def test_one_that_is_not_there_can_be_looked_for_where_it_was() -> None:
    error = not_found("my web", "lxc:///")
    assert error.message == "there is no domain my web at lxc:///"
    assert error.hint == "Check the name; `virsh -c lxc:/// list --all` shows the domains that the hypervisor knows."

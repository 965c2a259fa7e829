"""The commands in hints are run by a shell, and by virsh where possible."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.domains import not_running
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.virsh import (
    connect_hint,
    list_hint,
    unmistakable,
    virsh,
)

SYSTEM = "qemu:///system"
UUID = "5fc1e6ba-8a29-4b0a-9a0c-3c2f7ce1a1d0"
NAMES = [
    *("web1", "two words", "it's", 'say "hi"', "$(reboot)", "a;b&c|d>e", "back`tick", "back\\slash"),
    *("*", "-c", "--all", "~root", "#1", "\u00fcber"),
]
SESSION = "qemu:///session"
REMOTE = "qemu+ssh://hv1/system"
WITH_VIRSH = pytest.mark.skipif(shutil.which("virsh") is None, reason="virsh is not installed")


def words_of(command: str) -> list[str]:
    """Return the arguments that a program gets from a shell that runs the command between the backticks."""
    script = "printf '%s\\0' " + command.removeprefix("`").removesuffix("`")
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    return shell.stdout.split("\0")[:-1]


def run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8"})


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are about root's default, whoever runs them."""
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.mark.slow
class TestACommand:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_shell_passes_the_name_to_virsh_unchanged(self, name: str) -> None:
        assert words_of(virsh(SYSTEM, "start", name)) == ["virsh", "start", *["--"] * name.startswith("-"), name]

    @pytest.mark.parametrize("uri", ["test:///default", "qemu+unix:///system?socket=/run/my sock&mode=direct"])
    def test_a_uri_other_than_virshs_default_is_in_the_command(self, uri: str) -> None:
        assert words_of(virsh(uri, "start", "web1")) == ["virsh", "-c", uri, "start", "web1"]

    @WITH_VIRSH
    @pytest.mark.parametrize("name", NAMES)
    def test_virsh_looks_for_a_domain_of_that_name(self, name: str) -> None:
        done = run(words_of(virsh("test:///default", "domstate --reason", name)))
        assert f"failed to get domain '{name}'" in done.stderr


@pytest.mark.parametrize(("user_id", "default", "other"), [(0, SYSTEM, SESSION), (1000, SESSION, SYSTEM)])
def test_virshs_default_depends_on_the_user(
    monkeypatch: pytest.MonkeyPatch, user_id: int, default: str, other: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user_id)
    assert virsh(default, "list") == "`virsh list`"
    assert virsh(other, "list") == f"`virsh -c {other} list`"


@pytest.mark.parametrize("uri", [SYSTEM, ""])
def test_virshs_default_uri_is_left_out(uri: str) -> None:
    assert virsh(uri, "list --all") == "`virsh list --all`"
    assert "`virsh list` tests" in connect_hint(uri)
    assert list_hint(uri) == "Check the name; `virsh list --all` shows the domains that the hypervisor knows."


class TestADomainThatDoesNotRun:
    @pytest.mark.parametrize(
        ("state", "words", "hint"),
        [
            (3, "paused", "Run `virsh resume web1` first;"),
            (5, "shut off", "Run `virsh start web1` first;"),
            (6, "crashed", "Run `virsh reset web1`, or `virsh destroy web1` and `virsh start web1` first;"),
            (7, "suspended by its power management", "Run `virsh dompmwakeup web1` first;"),
            (4, "shutting down", "Wait until it has shut down, then start it;"),
            (0, "in no known state", "Check `virsh domstate --reason web1`, and run `virsh start web1` if"),
            (8, "not running", "Check `virsh domstate --reason web1`, and run `virsh start web1` if"),
        ],
    )
    def test_the_error_has_its_state_and_the_commands_to_make_it_run_again(
        self, state: int, words: str, hint: str
    ) -> None:
        error = not_running("web1", SYSTEM, state, UUID)
        assert error.code == "not_running"
        assert error.message == f"domain 'web1' at {SYSTEM} is {words}"
        assert error.hint.startswith(hint)
        assert error.hint.endswith("; an agent answers only while its guest runs.")

    @pytest.mark.parametrize("name", ["my web", "1", "007", "+7", " 7", "99999999999"])
    @pytest.mark.parametrize("state", [0, 3, 5, 6, 7, 99])
    def test_each_command_has_the_uri_and_the_uuid_if_the_name_is_a_number(self, name: str, state: int) -> None:
        """virsh would read such a name as the ID of a running domain, and would stop that one."""
        error = not_running(name, REMOTE, state, UUID)
        assert error.message.startswith(f"domain '{name}' at {REMOTE} is ")
        commands = [shlex.split(words) for words in re.findall(r"`([^`]*)`", error.hint)]
        assert commands
        for words in commands:
            assert words[:3] == ["virsh", "-c", REMOTE]
            assert words[-1] == (name if name == "my web" else UUID)

    @pytest.mark.parametrize("name", ["web1", "1a", "0x1", "-1", "1.0", "7 "])
    def test_any_other_name_is_used_unchanged(self, name: str) -> None:
        assert unmistakable(name, UUID) == name

    @WITH_VIRSH
    @pytest.mark.parametrize(
        ("name", "is_number"), [("1", True), ("+1", True), (" 1", True), ("1 ", False), ("1a", False)]
    )
    def test_virsh_reads_such_a_name_as_an_id(self, name: str, is_number: bool) -> None:
        """The only domain of its test driver has the ID 1."""
        done = run(["virsh", "-c", "test:///default", "domstate", name])
        assert (done.returncode == 0) == is_number
        assert (unmistakable(name, UUID) == UUID) == is_number

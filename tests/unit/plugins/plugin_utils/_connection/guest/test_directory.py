from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import NOT_BEGUN

from tests.processes.state import is_gone
from tests.support.acl import has_default_acl, set_default_acl
from tests.support.guest_scripts import (
    COMMON,
    NEXT,
    NOBODY,
    TOKEN,
    Shell,
    bystander,
    made,
    needs_root,
    report,
    running,
)
from tests.support.until import until

pytestmark = pytest.mark.slow


class TestWithoutADirectoryYet:
    """Of several places it takes the first one that it can, and no command begins where that is not wanted any more."""

    def test_run_makes_one(self, placed: Shell) -> None:
        status, output = placed(scripts.RUN, **running("echo out"))
        directory = made(placed)
        assert (status, output) == (0, report(f"done 0 kept out - 1 {directory.name}"))
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert (directory / "1.out").read_bytes() == b"out\n"
        assert len(list(directory.glob("1.pid.*"))) == 1

    def test_run_makes_one_without_mktemp(self, placed: Shell) -> None:
        script = scripts.RUN.replace("command -v mktemp", "command -v nonesuch")
        assert placed(script, **running("echo out")) == (0, report("done 0 kept out - 1 qga-f00d"))

    @pytest.mark.parametrize("mktemp", ["mktemp", "nonesuch"])
    def test_run_leaves_none_that_nothing_fits_into(self, placed: Shell, mktemp: str) -> None:
        """On a disk where the directory was the last thing that there was room for."""
        script = scripts.RUN.replace("command -v mktemp", f"command -v {mktemp}")
        assert placed(script, **running("echo out"), t="none/token") == (NOT_BEGUN, b"")
        assert list(Path(placed.places[1]).iterdir()) == []

    @pytest.mark.parametrize("mktemp", ["mktemp", "nonesuch"])
    @pytest.mark.parametrize("mode", [0o2755, 0o2775, 0o3777])
    def test_it_is_used_below_a_setgid_directory(self, placed: Shell, mode: int, mktemp: str) -> None:
        Path(placed.places[1]).chmod(mode)
        self.check_use(placed, mktemp)

    @pytest.mark.parametrize("mktemp", ["mktemp", "nonesuch"])
    @pytest.mark.parametrize("group", [0, 5, 7])
    def test_is_private_whatever_a_default_acl_grants(self, placed: Shell, group: int, mktemp: str) -> None:
        set_default_acl(Path(placed.places[1]), group=group, others=5, users={NOBODY: 7})
        self.check_use(placed, mktemp)
        assert has_default_acl(made(placed))

    @staticmethod
    def check_use(shell: Shell, mktemp: str) -> None:
        run = scripts.RUN.replace("command -v mktemp", f"command -v {mktemp}")
        status, output = shell(run, **running("echo out"))
        directory = made(shell)
        assert (status, output) == (0, report(f"done 0 kept out - 1 {directory.name}"))
        assert stat.S_IMODE(directory.stat().st_mode) & 0o777 == 0o700
        assert shell(scripts.LOOK) == (0, output)
        assert shell(scripts.RUN, **running("echo more"), n="2", d=str(directory))[0] == 0
        assert shell(scripts.PREPARE, d=str(directory))[0] == 0
        # And a directory in which there is no token, as one for a file that is put.
        (directory / TOKEN).unlink()
        assert shell(scripts.LOOK) == (0, report("unknown"))
        enter = COMMON + 'enter "$d" && pwd'
        assert shell(enter, d=str(directory)) == (0, f"{directory}\n".encode())

    def test_run_needs_one(self, placed: Shell) -> None:
        placed.places = placed.places[:1]
        assert placed(scripts.RUN, **running("echo out")) == (NOT_BEGUN, b"")

    def test_look_finds_it(self, placed: Shell) -> None:
        reported = placed(scripts.RUN, **running("exit 7"))
        assert placed(scripts.LOOK) == reported
        assert placed(scripts.LOOK, n="2") == (0, report("unknown", "2"))
        assert placed(scripts.LOOK, t="another") == (0, report("unknown").replace(TOKEN.encode(), b"another"))

    def test_end_finds_it(self, placed: Shell) -> None:
        with placed.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(Path(placed.places[1]).glob("*/1.pid.*")), "the command was not begun")
            assert placed(scripts.END)[0] == 0
        assert runner.returncode == 0
        assert [path.name for path in made(placed).glob("1.done.*")] == ["1.done.143.kept"]

    def test_end_keeps_a_command_from_being_begun(self, placed: Shell) -> None:
        assert placed(scripts.END)[0] == 0
        assert placed(scripts.RUN, **running("echo out")) == (NOT_BEGUN, b"")
        assert placed(scripts.RUN, **running("echo out"), n="2")[0] == 0

    def test_clean_removes_all_that_were_made(self, placed: Shell) -> None:
        (Path(placed.places[1]) / "qga-another").mkdir()
        placed(scripts.END)
        placed(scripts.RUN, **running("echo out"), n="2")
        placed(scripts.PREPARE)
        placed(scripts.CLEAN)
        assert [path.name for path in Path(placed.places[1]).iterdir()] == ["qga-another"]


def _of_another_user(directory: Path) -> None:
    for path in (directory, *directory.iterdir()):
        os.chown(path, NOBODY, NOBODY)


def _a_link(directory: Path) -> None:
    target = directory.with_name("target")
    directory.rename(target)
    directory.symlink_to(target)


class TestADirectoryThatIsNotOurs:
    """It has all that one of ours has, and even the token is known: a command that was done, and one that runs."""

    @pytest.fixture(
        params=[pytest.param(_of_another_user, marks=needs_root), pytest.param(_a_link)],
        ids=["another user's", "a link"],
    )
    def forged(self, shell: Shell, request: pytest.FixtureRequest) -> Iterator[tuple[Shell, Path, int]]:
        assert shell.directory is not None
        directory = shell.directory
        with bystander(leads=True) as victim:
            names = [TOKEN, "1.begun", "1.done.0.kept", f"1.pid..{victim.pid}", f"1.runner..{victim.pid}"]
            for name in (*names, f"{NEXT}.input"):
                (directory / name).touch()
            (directory / "1.out").write_text("forged")
            request.param(directory)
            yield shell, directory, victim.pid

    @pytest.mark.parametrize("is_known", [True, False])
    def test_is_believed_nothing(self, forged: tuple[Shell, Path, int], is_known: bool) -> None:
        shell, directory, victim = forged
        before = sorted(path.name for path in directory.iterdir())
        if not is_known:
            shell.directory = None
        assert shell(scripts.LOOK) == (0, report("unknown"))
        assert shell(scripts.END)[0] == 0
        shell(scripts.CLEAN)
        assert sorted(path.name for path in directory.iterdir()) == before
        assert not is_gone(victim)

    def test_has_nothing_begun_in_it(self, forged: tuple[Shell, Path, int]) -> None:
        shell, _directory, _victim = forged
        for script in (scripts.RUN, scripts.RUN_ASKING, scripts.PREPARE):
            laid = running("", laid=NEXT, stdin="laid", rounds="1")
            assert shell(script, **laid, n="2") == (NOT_BEGUN, b"")

    @pytest.mark.parametrize("mode", [0o777, 0o2777, 0o2710, 0o2720, 0o3770, 0o701])
    def test_is_one_that_others_may_look_into_as_well(self, shell: Shell, mode: int) -> None:
        assert shell.directory is not None
        (shell.directory / "1.begun").touch()
        (shell.directory / "1.done.0.kept").touch()
        shell.directory.chmod(mode)
        assert shell(scripts.LOOK) == (0, report("unknown"))
        assert shell(scripts.PREPARE) == (NOT_BEGUN, b"")

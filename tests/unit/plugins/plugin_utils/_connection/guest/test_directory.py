from __future__ import annotations

import os
import stat
from collections.abc import Callable
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

with_mktemp_and_without = pytest.mark.parametrize(
    "run",
    [scripts.RUN, scripts.RUN.replace("command -v mktemp", "command -v nonesuch")],
    ids=["mktemp", "no mktemp"],
)


class TestWithoutADirectoryYet:
    """Of several places it takes the first one that it can, and no command begins where that is not wanted any more."""

    @with_mktemp_and_without
    @pytest.mark.parametrize("mode", [0o700, 0o2755, 0o2775, 0o3777])
    def test_one_is_made_and_used(self, placed: Shell, mode: int, run: str) -> None:
        Path(placed.places[1]).chmod(mode)
        self.check_use(placed, run)
        assert (made(placed).name == "qga-f00d") == (run != scripts.RUN)

    @with_mktemp_and_without
    @pytest.mark.parametrize("group", [0, 5, 7])
    def test_it_is_private_whatever_a_default_acl_grants(self, placed: Shell, group: int, run: str) -> None:
        set_default_acl(Path(placed.places[1]), group=group, others=5, users={NOBODY: 7})
        self.check_use(placed, run)
        assert has_default_acl(made(placed))

    @staticmethod
    def check_use(shell: Shell, run: str) -> None:
        status, output = shell(run, **running("echo out"))
        directory = made(shell)
        assert (status, output) == (0, report(f"done 0 kept out - 1 {directory.name}"))
        assert stat.S_IMODE(directory.stat().st_mode) & 0o777 == 0o700
        assert (directory / "1.out").read_bytes() == b"out\n"
        assert len(list(directory.glob("1.pid.*"))) == 1
        assert shell(scripts.LOOK) == (0, output)
        assert shell(scripts.LOOK, n="2") == (0, report("unknown", "2"))
        assert shell(scripts.LOOK, t="another") == (0, report("unknown").replace(TOKEN.encode(), b"another"))
        assert shell(scripts.RUN, **running("echo more"), n="2", d=str(directory))[0] == 0
        assert shell(scripts.PREPARE, d=str(directory))[0] == 0
        # And a directory in which there is no token, as one for a file that is put.
        (directory / TOKEN).unlink()
        assert shell(scripts.LOOK) == (0, report("unknown"))
        enter = COMMON + 'enter "$d" && pwd'
        assert shell(enter, d=str(directory)) == (0, f"{directory}\n".encode())

    @with_mktemp_and_without
    def test_none_is_left_that_nothing_fits_into(self, placed: Shell, run: str) -> None:
        """On a disk where the directory was the last thing that there was room for."""
        assert placed(run, **running("echo out"), t="none/token") == (NOT_BEGUN, b"")
        assert list(Path(placed.places[1]).iterdir()) == []

    def test_nothing_runs_without_a_place(self, placed: Shell) -> None:
        placed.places = placed.places[:1]
        assert placed(scripts.RUN, **running("echo out")) == (NOT_BEGUN, b"")

    def test_end_finds_it(self, placed: Shell) -> None:
        with placed.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(Path(placed.places[1]).glob("*/1.pid.*")), "the command was not begun")
            assert placed(scripts.END)[0] == 0
        assert runner.returncode == 0
        assert [path.name for path in made(placed).glob("1.done.*")] == ["1.done.143.kept"]

    def test_end_keeps_a_command_from_being_begun_and_clean_removes_all(self, placed: Shell) -> None:
        (Path(placed.places[1]) / "qga-another").mkdir()
        assert placed(scripts.END)[0] == 0
        assert placed(scripts.RUN, **running("echo out")) == (NOT_BEGUN, b"")
        assert placed(scripts.RUN, **running("echo out"), n="2")[0] == 0
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
    @pytest.mark.parametrize("forge", [pytest.param(_of_another_user, marks=needs_root), _a_link])
    @pytest.mark.parametrize("is_known", [True, False])
    def test_is_believed_nothing(self, shell: Shell, forge: Callable[[Path], None], is_known: bool) -> None:
        """It has all that one of ours has, and even the token is known: a command that was done, and one that runs."""
        directory = shell.directory
        with bystander(leads=True) as victim:
            forged = [TOKEN, "1.begun", "1.done.0.kept", f"1.pid..{victim.pid}", f"1.runner..{victim.pid}"]
            for name in (*forged, "1.out", f"{NEXT}.input"):
                (directory / name).touch()
            forge(directory)
            before = sorted(path.name for path in directory.iterdir())
            for script in (scripts.RUN, scripts.RUN_ASKING, scripts.PREPARE) if is_known else ():
                laid = running("", laid=NEXT, stdin="laid", rounds="1")
                assert shell(script, **laid, n="2") == (NOT_BEGUN, b"")
            if not is_known:
                shell.directory = None
            assert shell(scripts.LOOK) == (0, report("unknown"))
            assert shell(scripts.END)[0] == 0
            shell(scripts.CLEAN)
            assert sorted(path.name for path in directory.iterdir()) == before
            assert not is_gone(victim.pid)

    @pytest.mark.parametrize("mode", [0o777, 0o2777, 0o2710, 0o2720, 0o3770, 0o701])
    def test_is_one_that_others_may_look_into_as_well(self, shell: Shell, mode: int) -> None:
        (shell.directory / "1.begun").touch()
        (shell.directory / "1.done.0.kept").touch()
        shell.directory.chmod(mode)
        assert shell(scripts.LOOK) == (0, report("unknown"))
        assert shell(scripts.PREPARE) == (NOT_BEGUN, b"")

from __future__ import annotations

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection import scripts
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.results import NOT_BEGUN

from tests.support.guest_scripts import NEXT, PATIENCE_S, TOKEN, Shell, processes_with, report, running
from tests.support.until import until

pytestmark = pytest.mark.slow


class TestRunAndLook:
    @pytest.mark.parametrize(
        ("command", "words", "written"),
        [
            ("cat; echo oops >&2; exit 3", "3 kept out err", (b"in\0put", b"oops\n")),
            ("exit 0", "0 kept - -", (b"", b"")),
            ("yes", "141 kept out -", (b"y\n" * 1000, b"")),
            ("umask >&2", "0 kept - err", (b"", b"0022\n")),
        ],
        ids=["both streams", "silence", "more than the limit", "a login's umask"],
    )
    def test_report_how_it_ended_and_keep_what_it_wrote(
        self, shell: Shell, command: str, words: str, written: tuple[bytes, bytes]
    ) -> None:
        (shell.directory / "0.out").write_text("taken")
        reported = shell.run(command, b"in\0put", before="0")
        assert reported == report(f"done {words} 0 qga-mine")
        assert shell(scripts.LOOK) == (0, reported)
        assert (shell.written("1.out"), shell.written("1.err")) == written
        assert shell.written("0.out") == b""

    def test_a_command_is_run_once(self, shell: Shell) -> None:
        shell.run("echo once")
        status, output = shell(scripts.RUN, **running("echo twice"))
        assert status in (NOT_BEGUN, 1, 2)
        assert (output, shell.written("1.out")) == (b"", b"once\n")

    def test_it_gets_what_was_laid_down_for_it(self, shell: Shell) -> None:
        assert shell(scripts.PREPARE) == (0, report("ready 0 qga-mine", "1"))
        (shell.directory / f"{NEXT}.command").write_bytes(b"cat; echo \xff")
        (shell.directory / f"{NEXT}.input").write_text("input ")
        laid = running("", laid=NEXT, stdin="laid", drop="another")
        assert shell(scripts.RUN, **laid) == (0, report("done 0 kept out - 0 qga-mine"))
        assert shell.written("1.out") == b"input \xff\n"
        assert shell.written(f"{NEXT}.input") == shell.written("another.answer") == b""

    def test_look_knows_a_command_that_runs_and_nothing_else(self, shell: Shell) -> None:
        assert shell(scripts.LOOK) == (0, report("unknown"))
        with shell.started(scripts.RUN, **running("sleep 1000")) as runner:
            until(lambda: any(shell.directory.glob("1.pid.*")), "the command was not begun")
            assert shell(scripts.LOOK) == (0, report("running"))
            shell(scripts.END)
            runner.wait()
        shell.directory /= "none"
        assert shell(scripts.LOOK) == (0, report("unknown"))


class TestACommandThatAsks:
    def test_ends_by_itself_if_nobody_answers(self, shell: Shell) -> None:
        shell(scripts.PREPARE)
        mark = secrets.token_hex(8)
        command = f"QGA_TEST={mark}; export QGA_TEST; echo begun; printf Password: >&2; IFS= read -r p; sleep 1000"
        asking = running(command, laid=NEXT, rounds="10", drop="another")
        assert shell(scripts.RUN_ASKING, **asking) == (0, report("done 143 kept out err 0 qga-mine"))
        assert shell.written("1.out") == b"begun\n"
        assert shell.written("1.err").startswith(b"Password:")
        assert processes_with(mark) == []

    def test_gets_the_answer_and_then_its_input(self, shell: Shell) -> None:
        shell(scripts.PREPARE)
        (shell.directory / f"{NEXT}.answer").write_bytes(b"it's \\n \xff\n")
        (shell.directory / f"{NEXT}.go").write_bytes(b"\n")
        asking = running("IFS= read -r p; printf '%s\\n' \"$p\"; cat", laid=NEXT, rounds="100", drop="another")
        assert shell(scripts.RUN_ASKING, b"in\0put", **asking)[0] == 0
        assert shell.written("1.out") == b"it's \\n \xff\nin\0put"
        assert shell.written(f"{NEXT}.answer") == b""

    def test_may_close_a_stream_and_costs_nothing_while_it_waits(self, shell: Shell, tmp_path: Path) -> None:
        shell(scripts.PREPARE)
        counter = tmp_path / "dd"
        script = scripts.RUN_ASKING.replace("$(dd bs", f"$(echo >>{counter}; dd bs")
        asking = running("exec 2>&-; sleep 1", laid=NEXT, rounds="100", drop="another")
        assert shell(script, **asking)[0] == 0
        assert len(counter.read_text()) < 5


class TestWhatOthersCanRead:
    """Every argument list in a guest, and nothing that a command inherits."""

    @pytest.fixture
    def programs(self, tmp_path: Path) -> Path:
        """A directory for PATH whose programs keep how they were called, and the log that they keep it in."""
        directory = tmp_path / "programs"
        directory.mkdir()
        for name in ("mktemp", "mkdir", "ls", "head", "dd", "cat", "sleep", "setsid", "rm", "id"):
            program = directory / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>{tmp_path}/log\nexec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)
        return directory

    def called(self, shell: Shell, programs: Path, script: str, **values: str) -> list[str]:
        """How programs were called by a script."""
        log = programs.parent / "log"
        log.write_text("")
        subprocess.run(
            [*shell.words, "-c", script, "qga"],
            input=shell.line(**values),
            check=False,
            timeout=PATIENCE_S,
            # Names that the scripts have variables of, as well.
            env={"PATH": str(programs), **dict.fromkeys(("t", "d", "drop", "laid", "spare"), "the agent's")},
        )
        return log.read_text().splitlines()

    @pytest.mark.parametrize("script", [scripts.RUN, scripts.RUN_ASKING], ids=["plain", "asking"])
    def test_has_no_name_that_gives_power(self, placed: Shell, programs: Path, script: str) -> None:
        # While it runs, all other programs of the script do.
        everything = r"cat /proc/*/cmdline 2>/dev/null | tr '\0' '\n'; env; pwd"
        run = {script: running(everything, rounds="5" * (script == scripts.RUN_ASKING), limit="9000000")}
        run |= {scripts.LOOK: {}, scripts.END: {"n": "3"}, scripts.PREPARE: {}}
        calls = [call for text, values in run.items() for call in self.called(placed, programs, text, **values)]
        assert [call for call in calls if call.startswith("mktemp -d")]
        directories = list(Path(placed.places[1]).glob("qga-*"))
        (written,) = [directory / "1.out" for directory in directories if (directory / "1.out").exists()]
        seen = "\n".join(calls) + written.read_text()
        assert scripts.RUN.strip().splitlines()[0] in seen
        for secret in (TOKEN, NEXT, "f00d", *(directory.name for directory in directories)):
            assert secret not in seen

    def test_names_a_directory_only_to_remove_it(self, shell: Shell, programs: Path) -> None:
        (shell.directory / TOKEN).touch()
        assert self.called(shell, programs, scripts.CLEAN) == [f"rm -rf {shell.directory}"]
        assert not shell.directory.exists()

"""A few attacks against a real playbook, which runs the installed modules. One run plays them all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.agent import serving
from tests.hostile.attacks import ATTACKS, HONEST
from tests.hostile.cases import MODULES
from tests.hostile.checks import DOCUMENTED, codes_of
from tests.processes.ansible_run import PlaybookRun, run_tasks
from tests.processes.socket_server import listen_unix
from tests.support.task_error import task_error

_NAMES = (
    "an endless string, at the step",
    "endless tiny replies, at a later reading",
    "a refusal that moves the cursor, at the step",
    "a refusal written from right to left, at a later reading",
    "a refusal that is a template, at the first reading",
    "objects nested 15 deep, at the first reading",
    "half a reply and hanging up, at the verification",
    "busy from 1970 to 2262, by the extended agent",
    "it shows the year 10^12, by the stock agent",
    "the step done, and an rtc-error of fifty thousand escapes, by the extended agent",
    "names that cannot be shown, with the stock agent",
    "facts of sixty thousand objects",
    "facts of strings of four thousand characters that cannot be shown",
    "a refusal that moves the cursor, at all but the sync",
    "endless 0xFF, at all but the sync",
    "a refusal that is a template, at the details",
)
_CHOSEN = {str(attack): attack for attack in ATTACKS if attack.name in _NAMES or attack.family == HONEST}


@pytest.fixture(scope="module")
def run() -> Iterator[PlaybookRun]:
    assert {attack.name for attack in _CHOSEN.values()} >= set(_NAMES)
    tasks = []
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hostile-")))
        for number, (name, attack) in enumerate(_CHOSEN.items()):
            path = directory / f"{number}.sock"
            stack.enter_context(serving(listen_unix(path), attack.agent()))
            module, options = MODULES[attack.work]
            arguments = {"socket": str(path), "timeout": 5.0, **options}
            tasks.append({"name": name, f"qemu.guest_agent.{module}": arguments, "ignore_errors": True})
        yield run_tasks(tasks, "-vv", "--diff")


def test_the_output_is_printable_and_has_no_traceback(run: PlaybookRun) -> None:
    assert "Traceback" not in run.output
    assert all(line.isprintable() for line in run.output.splitlines())


@pytest.mark.parametrize("name", _CHOSEN)
def test_each_task_ends_with_a_documented_code_or_a_result(name: str, run: PlaybookRun) -> None:
    (record,) = (record for record in run.tasks if record.task == name)
    # Tasks with an honest agent have no codes, so they must succeed.
    assert record.outcome == ("ok" if task_error(record.result) is None else "failed"), record.result
    assert codes_of(record.result) <= DOCUMENTED & _CHOSEN[name].codes, record.result

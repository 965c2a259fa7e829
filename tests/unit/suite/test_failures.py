# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from tests.suite.failures import failures

PYTEST = """\
..F.                                                    [100%]
=================================== FAILURES ===================================
____________________________________ test_x ____________________________________
    def test_x():
>       assert 1 == 2
E       assert 1 == 2

test_x.py:2: AssertionError
=========================== short test summary info ============================
FAILED test_x.py::test_x - assert 1 == 2
ERROR test_y.py - OSError: [Errno 28]
1 failed, 3 passed, 1 error in 0.02s
make[1]: *** [Makefile:54: unit] Error 1
"""


def test_of_pytest_the_errors_and_the_summary_are_told() -> None:
    assert failures(PYTEST) == [
        "E       assert 1 == 2",
        "FAILED test_x.py::test_x - assert 1 == 2",
        "ERROR test_y.py - OSError: [Errno 28]",
    ]


MOLECULE = """\
  \x1b[2m│\x1b[0m TASK [Try what is to fail]
  \x1b[2m\x1b[31m│\x1b[0m \x1b[0;31m[ERROR]: Task failed: It was to fail, and was rescued.\x1b[0m
  \x1b[2m│\x1b[0m TASK [See that each is up]
  \x1b[2m\x1b[31m│\x1b[0m \x1b[0;31m[ERROR]: Task failed: Action failed: qga-mol-x has panicked.\x1b[0m
  \x1b[2m\x1b[31m│\x1b[0m \x1b[31mOrigin: create.yml:40:7\x1b[0m
  \x1b[2m│\x1b[0m
\x1b[31mERROR   \x1b[0m \x1b[32mextended_agent\x1b[0m ➜ create: Executed: Failed
"""


def test_of_molecule_the_task_is_told_that_failed_last() -> None:
    assert failures(MOLECULE)[:2] == [
        "[ERROR]: Task failed: Action failed: qga-mol-x has panicked.",
        "Origin: create.yml:40:7",
    ]


def test_of_other_tools_the_last_lines_are_told_as_they_would_have_been_seen() -> None:
    log = "".join(f"line {number}\n\n" for number in range(100)) + "\x1b[31mfatal\x1b[0m: no such host  \n"
    told = failures(log)
    assert told[-3:] == ["line 98", "line 99", "fatal: no such host"]
    assert len(told) < 30


def test_of_many_failures_those_are_told_that_the_summary_ends_with() -> None:
    log = "".join(f"FAILED test_x.py::test_{number}\n" for number in range(1000))
    assert failures(log)[-1] == "FAILED test_x.py::test_999"
    assert len(failures(log)) < 30


def test_a_line_without_an_end_fills_no_screen() -> None:
    assert [len(line) for line in failures("E   " + "x" * 100_000)] == [240]


def test_a_log_without_a_word_is_no_failure_of_ours() -> None:
    assert failures("") == []

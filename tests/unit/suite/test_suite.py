# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import tests.suite.__main__ as program
from tests.suite.__main__ import Suite, report

MAKEFILE = """\
good: ; @echo all is well
bad: ; @echo "E   why"; exit 1
also-good: ; @echo fine
first: ; @mkfifo $(DIRECTORY)/met && cat $(DIRECTORY)/met
second: ; @until test -p $(DIRECTORY)/met; do sleep 0.01; done; echo beside > $(DIRECTORY)/met
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    makefile = tmp_path / "Makefile"
    makefile.write_text(MAKEFILE, encoding="utf-8")
    return Suite(tmp_path / "logs", ("make", "--no-print-directory", "-f", str(makefile), f"DIRECTORY={tmp_path}"))


class TestTargets:
    def test_all_of_a_lane_are_made_in_order_even_after_one_has_failed(self, suite: Suite) -> None:
        made = suite.run([["good", "bad", "also-good"]])
        assert [(each.target, each.status != 0) for each in made] == [
            ("good", False),
            ("bad", True),
            ("also-good", False),
        ]

    def test_lanes_run_beside_each_other(self, suite: Suite) -> None:
        assert [each.status for each in suite.run([["first"], ["second"]])] == [0, 0]

    def test_what_one_wrote_is_shown_in_one_piece(self, suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
        suite.run([["good"], ["also-good"]])
        shown = capsys.readouterr().out
        assert "all is well\ngood  passed" in shown
        assert "fine\nalso-good  passed" in shown


class TestReport:
    def test_ends_with_what_failed_and_where_all_of_it_is(self, suite: Suite, tmp_path: Path) -> None:
        lines = report(suite.run([["bad", "good"]])).splitlines()
        assert [line.split()[:2] for line in lines[2:4]] == [["bad", "FAILED"], ["good", "passed"]]
        assert lines[-2:] == [f"bad failed; all of it is in {tmp_path}/logs/bad.log:", "E   why"]

    def test_says_no_more_than_that_all_passed(self, suite: Suite) -> None:
        assert len(report(suite.run([["good", "also-good"]])).splitlines()) == 4


def test_a_target_that_there_is_not_fails_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "LOGS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["suite", "help no-such-target"])
    assert program.main() == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("make: *** No rule to make target 'no-such-target'")

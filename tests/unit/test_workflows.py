"""GitHub's workflows run the same targets as a developer, with the least permissions."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):(?!=)", MAKEFILE, re.MULTILINE))
(checks,) = re.findall(r"^checks := (.*)$", MAKEFILE, re.MULTILINE)
# Without the targets that are generated from a list of ansible-cores.
CHECKS = {*re.sub(r"\$\([^)]*\)", "", checks).split(), "fuzz"}


def workflow(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def made_by(path: Path) -> set[str]:
    """Return the targets that a workflow makes, with its matrix expanded."""
    targets: set[str] = set()
    for job in workflow(path)["jobs"].values():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", ())
        of_matrix = {target for row in rows for target in row["targets"].split()}
        for step in job["steps"]:
            for words in re.findall(r"\bmake ([^\n]*)", step.get("run", "")):
                named = {word for word in words.split() if "=" not in word}
                targets |= of_matrix if "$TARGETS" in named else named
    return targets


def test_all_workflows_are_found() -> None:
    assert [path.stem for path in WORKFLOWS] == ["release", "sanity", "test"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
class TestEach:
    def test_makes_existing_targets(self, path: Path) -> None:
        made = made_by(path)
        assert made
        assert {target for target in made - TARGETS if not re.fullmatch(r"unit-2\.\d+", target)} == set()

    def test_has_only_the_permissions_that_its_jobs_request(self, path: Path) -> None:
        loaded = workflow(path)
        assert loaded["permissions"] == {}
        asked = {name: job["permissions"] for name, job in loaded["jobs"].items()}
        beyond_reading = {name for name, permissions in asked.items() if permissions not in ({}, {"contents": "read"})}
        assert beyond_reading == ({"github"} if path.stem == "release" else set())

    def test_pins_every_action_to_a_commit_and_names_its_version(self, path: Path) -> None:
        used = re.findall(r"uses: (.*)$", path.read_text(), re.MULTILINE)
        assert used
        assert [one for one in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)] == []

    def test_every_job_has_a_timeout(self, path: Path) -> None:
        assert all(0 < job["timeout-minutes"] <= 120 for job in workflow(path)["jobs"].values())


def test_all_of_make_test_runs_on_every_pull_request() -> None:
    (path,) = (path for path in WORKFLOWS if path.stem == "test")
    # Unless quoted, YAML 1.1 reads this key as a boolean.
    assert {"pull_request", "schedule"} <= set(workflow(path)["on"])
    assert {"lint", "unit", "vm"} <= CHECKS
    assert made_by(path) >= CHECKS


def printed(*arguments: str) -> str:
    """Return the commands that make would run, without the options of the make that runs these tests."""
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "TIER")}
    command = ["make", "--just-print", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("target", ["integration", "vm"])
@pytest.mark.parametrize(("tier", "left_out"), [("", []), ("all", []), ("quick", ["not thorough"])])
def test_only_the_quick_tier_leaves_tests_out(target: str, tier: str, left_out: list[str]) -> None:
    commands = printed(target, f"TIER={tier}")
    assert re.findall(r"pytest -m '(.*?)'", commands) == left_out


@pytest.mark.parametrize(("target", "tier"), [("test", "quick"), ("test-all", "all")])
def test_each_tier_is_a_target(target: str, tier: str) -> None:
    # With --just-print, make still runs a recursive make, which then also only prints.
    commands = printed(target)
    assert f"TIER={tier} " in commands
    assert ("-m 'not thorough'" in commands) is (tier == "quick")
    assert f"molecule {tier}" in commands

"""What a release says of itself in several places is the same in all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG

ROOT = Path(__file__).parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


GALAXY = read("galaxy.yml")
RELEASES = read("changelogs/changelog.yaml")["releases"]


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_galaxy_takes_it_as_a_whole_version() -> None:
    assert re.fullmatch(r"[1-9]\d*\.\d+\.\d+", GALAXY["version"])


def test_no_released_version_is_newer_than_the_one_that_is_built() -> None:
    assert max(map(numbers, RELEASES)) <= numbers(GALAXY["version"])


def test_every_release_has_a_date_and_a_summary() -> None:
    for version, release in RELEASES.items():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", release["release_date"]), version
        assert release["changes"]["release_summary"].strip(), version


@pytest.mark.parametrize("page", ["CHANGELOG.md", "CHANGELOG.rst"])
def test_the_changelog_to_read_has_every_release(page: str) -> None:
    text = (ROOT / page).read_text().replace("\\", "")
    assert set(re.findall(r"^(?:## )?v(\d+\.\d+\.\d+)$", text, re.MULTILINE)) == set(RELEASES)


def test_every_version_added_is_a_release_or_the_next_one() -> None:
    added = re.compile(r"^\s*version_added: *[\"']?([^\"'\s]+)", re.MULTILINE)
    files = [path for top in ("plugins", "roles", "extensions") for path in (ROOT / top).rglob("*.*")]
    sources = [path for path in files if path.suffix in (".py", ".yml")]
    found = [(path, version) for path in sources for version in added.findall(path.read_text())]
    assert len(found) > 10
    assert [entry for entry in found if entry[1] not in {*RELEASES, GALAXY["version"]}] == []


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [
        ("connection", "plugins/connection/*.py"),
        ("inventory", "plugins/inventory/*.py"),
        ("filter", "plugins/filter/*.yml"),
        ("module", "plugins/modules/*.py"),
        ("role", "roles/[!q]*"),  # qga_deployment is private
        ("playbook", "playbooks/*.yml"),
    ],
)
def test_everything_is_told_in_the_changelog_once_it_is_released(kind: str, pattern: str) -> None:
    told = [
        entry["name"]
        for release in RELEASES.values()
        for entry in (
            *(release.get("modules", ()) if kind == "module" else ()),
            *release.get("plugins", {}).get(kind, ()),
            *release.get("objects", {}).get(kind, ()),
        )
    ]
    there = {path.stem for path in ROOT.glob(pattern)}
    assert len(told) == len(set(told))
    # What is new since the last release is not told yet.
    assert set(told) <= there
    if GALAXY["version"] in RELEASES:
        assert there - {"__init__"} == set(told)


@pytest.mark.parametrize("page", ["README.md", "extensions/eda/README.md"])
def test_what_is_to_be_pasted_names_the_tarball_that_is_built(page: str) -> None:
    named = set(re.findall(r"qemu-guest_agent-[\d.]+\.tar\.gz", (ROOT / page).read_text()))
    assert named <= {f"qemu-guest_agent-{GALAXY['version']}.tar.gz"}


def test_the_action_group_has_every_module() -> None:
    runtime = read("meta/runtime.yml")
    assert runtime["action_groups"] == {"qga": sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))}


def test_the_oldest_ansible_core_that_is_promised_is_tested() -> None:
    promised = read("meta/runtime.yml")["requires_ansible"]
    (core,) = re.findall(r"^oldest_core := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert promised == f">={core}.0"


def test_the_extended_agent_says_the_same_version() -> None:
    agent = (ROOT / "roles/extended_agent/files/qemu_ga_extended/__init__.py").read_text()
    assert f'VERSION = "{GALAXY["version"]}"' in agent


def test_its_commands_are_since_a_release() -> None:
    since = [command.since for command in CATALOG.values() if command.origin == "extended"]
    assert len(since) == 3
    assert set(since) <= {*RELEASES, GALAXY["version"]}

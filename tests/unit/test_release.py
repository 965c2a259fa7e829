"""Versions, names and the changelog agree in all files of a release."""

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


def test_the_version_is_final_and_at_least_1() -> None:
    assert re.fullmatch(r"[1-9]\d*\.\d+\.\d+", GALAXY["version"])


def test_the_built_version_is_at_least_the_newest_release() -> None:
    assert max(map(numbers, RELEASES)) <= numbers(GALAXY["version"])


def test_every_release_has_a_date_and_a_summary() -> None:
    for version, release in RELEASES.items():
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", release["release_date"]), version
        assert release["changes"]["release_summary"].strip(), version


@pytest.mark.parametrize("page", ["CHANGELOG.md", "CHANGELOG.rst"])
def test_the_generated_changelog_has_every_release(page: str) -> None:
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
def test_everything_released_is_in_the_changelog_once(kind: str, pattern: str) -> None:
    listed = [
        entry["name"]
        for release in RELEASES.values()
        for entry in (
            *(release.get("modules", ()) if kind == "module" else ()),
            *release.get("plugins", {}).get(kind, ()),
            *release.get("objects", {}).get(kind, ()),
        )
    ]
    existing = {path.stem for path in ROOT.glob(pattern)}
    assert len(listed) == len(set(listed))
    # Plugins that are new since the last release are not listed yet.
    assert set(listed) <= existing
    if GALAXY["version"] in RELEASES:
        assert existing - {"__init__"} == set(listed)


def test_commands_to_paste_have_the_name_of_the_built_tarball() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.rst"),
        *ROOT.glob("extensions/**/*.md"),
        *ROOT.glob("roles/*/*.md"),
    ]
    named = {name for page in pages for name in re.findall(r"qemu-guest_agent-[\d.]+\.tar\.gz", page.read_text())}
    assert named <= {f"qemu-guest_agent-{GALAXY['version']}.tar.gz"}


def test_the_action_group_has_every_module() -> None:
    runtime = read("meta/runtime.yml")
    assert runtime["action_groups"] == {"qga": sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))}


def test_the_oldest_supported_ansible_core_is_tested() -> None:
    promised = read("meta/runtime.yml")["requires_ansible"]
    (core,) = re.findall(r"^oldest_core := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert promised == f">={core}.0"


def test_the_extended_agent_has_the_same_version() -> None:
    agent = (ROOT / "roles/extended_agent/files/qemu_ga_extended/__init__.py").read_text()
    assert f'VERSION = "{GALAXY["version"]}"' in agent


def test_commands_of_the_extended_agent_exist_since_a_release() -> None:
    since = [command.since for command in CATALOG.values() if command.origin == "extended"]
    assert len(since) == 3
    assert set(since) <= {*RELEASES, GALAXY["version"]}

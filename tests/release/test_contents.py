"""The tarball contains all files that belong in it, and no others."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tests.support.collection import copy_sources

PYTHON = r"[a-z0-9_]+\.py"
SHELL = r"[a-z0-9_]+\.sh"
CIL = r"[a-z0-9-]+\.cil"
YAML = r"[a-zA-Z0-9_-]+\.yml"
TEMPLATE = r"[a-z._-]+\.j2"

# The pattern of file names in each directory. Other files do not belong in the tarball, and each directory is needed.
BELONGS: Mapping[str, str] = {
    ".": (
        r"\.ansible-lint|ARCHITECTURE\.md|CHANGELOG\.(md|rst)|CODE_OF_CONDUCT\.md|CONTRIBUTING\.md|COPYING"
        r"|FILES\.json|MAINTAINERS|MANIFEST\.json|README\.md|REUSE\.toml|SECURITY\.md"
    ),
    "LICENSES": r"GPL-3\.0-or-later\.txt",
    "changelogs": r"changelog\.yaml",
    "docs/docsite": r"(config|extra-docs|links)\.yml",
    "docs/docsite/rst": r"[a-z_]+\.rst",
    "docs/docsite/rst/images": r"[a-z_]+\.(png|svg)",
    "extensions/eda": r"README\.md|inventory\.yml",
    "extensions/eda/plugins/event_source": PYTHON,
    "extensions/eda/rulebooks": YAML,
    "meta": r"(execution-environment|extensions|runtime)\.yml|ee-(bindep|requirements)\.txt",
    "playbooks": YAML,
    "playbooks/tasks": YAML,
    "playbooks/vars": YAML,
    "plugins/connection": PYTHON,
    "plugins/doc_fragments": PYTHON,
    "plugins/filter": f"{PYTHON}|{YAML}",
    "plugins/inventory": PYTHON,
    "plugins/module_utils": PYTHON,
    **{
        f"plugins/module_utils/_{wing}": PYTHON
        for wing in ("channels", "clock", "event_loop", "facts", "fleet", "hypervisor", "linux", "protocol", "watch")
    },
    "plugins/module_utils/_watch/sources": PYTHON,
    "plugins/modules": PYTHON,
    "plugins/plugin_utils": PYTHON,
    "plugins/plugin_utils/_connection/guest": f"{PYTHON}|{SHELL}",
    **{f"plugins/plugin_utils/_{wing}": PYTHON for wing in ("connection", "inventory", "report/chart")},
    "plugins/plugin_utils/_report": rf"{PYTHON}|[a-z]+\.(html\.j2|css|js)",
    **{
        f"roles/{role}{below}": pattern
        for role in ("extended_agent", "resync_on_resume")
        for below, pattern in (
            ("", r"README\.md"),
            ("/defaults", r"main\.yml"),
            ("/meta", r"(argument_specs|main)\.yml"),
            ("/tasks", YAML),
            ("/templates", TEMPLATE),
            ("/vars", YAML),
        )
    },
    "roles/extended_agent/files": rf"{PYTHON}|{SHELL}|{CIL}",
    "roles/qga_deployment": r"README\.md",
    "roles/qga_deployment/files": f"{PYTHON}|{SHELL}",
    **{f"roles/qga_deployment/{below}": r"main\.yml" for below in ("meta", "vars")},
    "roles/qga_deployment/tasks": YAML,
    "roles/extended_agent/files/qemu_ga_extended": PYTHON,
    "roles/resync_on_resume/files/resync_on_resume": PYTHON,
}
LEFT_OVER = (
    *(
        ".ansible/tmp",
        ".hypothesis/examples",
        ".mypy_cache/3.11",
        ".nox/lint",
        ".pytest_cache/v",
        ".ruff_cache/content",
    ),
    *(".venv/bin/python", ".venvs/core-2.17/bin/python", "build/installed/file", "changelogs/.plugin-cache.yaml"),
    *("changelogs/fragments/1-a-change.yml", "plugins/modules/__pycache__/qga_info.cpython-311.pyc"),
    *("qemu-guest_agent-0.9.0.tar.gz", "tests/output/log"),
)


def files_in(tarball: Path) -> list[str]:
    with tarfile.open(tarball) as archive:
        return sorted(member.name for member in archive if not member.isdir())


def belongs(name: str) -> bool:
    path = PurePosixPath(name)
    pattern = BELONGS.get(str(path.parent))
    return pattern is not None and re.fullmatch(pattern, path.name) is not None


def test_the_tarball_contains_only_files_that_belong_in_it(tarball: Path) -> None:
    assert [name for name in files_in(tarball) if not belongs(name)] == []


def test_the_tarball_contains_every_directory(tarball: Path) -> None:
    assert set(BELONGS) - {str(PurePosixPath(name).parent) for name in files_in(tarball)} == set()


def test_the_tarball_contains_the_required_files(tarball: Path) -> None:
    assert set(files_in(tarball)) >= {
        *("README.md", "CHANGELOG.md", "CHANGELOG.rst", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "COPYING"),
        *("MAINTAINERS", "SECURITY.md", "changelogs/changelog.yaml", "meta/runtime.yml"),
        *("meta/execution-environment.yml", "meta/ee-bindep.txt", "meta/ee-requirements.txt", "meta/extensions.yml"),
        *("docs/docsite/links.yml", "LICENSES/GPL-3.0-or-later.txt"),
    }


def test_a_stray_file_would_be_found() -> None:
    strays = ("notes.txt", "plugins/modules/qga_info.py.orig", "tests/conftest.py", "roles/extended_agent/files/core")
    assert [name for name in strays if belongs(name)] == []


def test_a_used_clone_builds_the_same_tarball(tarball: Path, tmp_path: Path) -> None:
    clone = copy_sources(tmp_path)
    for name in LEFT_OVER:
        path = clone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("left over")
    build = [Path(sys.executable).with_name("ansible-galaxy"), "collection", "build", "--output-path", tmp_path]
    subprocess.run(build, cwd=clone, check=True, capture_output=True)
    assert files_in(tmp_path / tarball.name) == files_in(tarball)


def test_every_link_to_a_file_resolves(installed: Path) -> None:
    pages = sorted(installed.rglob("*.md"))
    assert len(pages) > 5
    broken = [
        f"{page.relative_to(installed)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text())
        if not (page.parent / target).resolve().exists()
    ]
    assert broken == []


def test_no_symbolic_link_points_outside(installed: Path) -> None:
    outside = [path for path in installed.rglob("*") if not path.resolve().is_relative_to(installed.resolve())]
    assert outside == []


def test_every_file_has_a_license(installed: Path, tmp_path: Path) -> None:
    # Outside of a git repository, reuse checks all files.
    copy = tmp_path / "copy"
    shutil.copytree(installed, copy, symlinks=True)
    reuse = Path(sys.executable).parent / "reuse"
    done = subprocess.run([reuse, "--root", copy, "lint"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest

from tests.support.collection import ROOT

SCRIPT = (ROOT / "roles/qga_deployment/files/lay_out.py").read_text()
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount, and give files away")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    (package / "__pycache__").mkdir(parents=True)
    for name, content in {"same.py": "1\n", "other.py": "old\n", "stale.py": ""}.items():
        (package / name).write_text(content)
    return package


@pytest.fixture
def wanted(package: Path) -> dict[str, Any]:
    contents = {"same.py": "1\n", "other.py": "new\n", "added.py": "# \u00e4\n", "../new/deep/settings": "a = b\n"}
    files = {os.path.normpath(package / name): content for name, content in contents.items()}
    return {"files": files, "whole": [str(package)]}


def run(wanted: dict[str, Any], *options: str, within: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Run it as the role does, with the umask of a cautious administrator."""
    command = [*within, sys.executable, "-c", SCRIPT, *options]
    given = json.dumps(wanted)
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, umask=0o077)
    return done.returncode, done.stdout, done.stderr


def lay_out(wanted: dict[str, Any], *options: str) -> list[str]:
    status, printed, errors = run(wanted, *options)
    assert (status, errors) == (0, "")
    return printed.splitlines()


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path): path.read_text(encoding="utf-8", errors="replace") for path in directory.rglob("*") if path.is_file()
    }


def modes(*paths: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in paths]


def test_files_are_written_and_others_in_the_directory_removed(package: Path, wanted: dict[str, Any]) -> None:
    new = package.parent / "new"
    printed = [
        f"removed {package}/stale.py",
        f"created {new}/deep/settings",
        f"created {package}/added.py",
        f"changed {package}/other.py",
    ]
    before = contents(package.parent)
    assert lay_out(wanted, "--dry-run") == printed
    assert contents(package.parent) == before
    assert lay_out(wanted) == printed
    assert contents(package.parent) == wanted["files"]
    assert (package / "__pycache__").is_dir()
    assert modes(new, new / "deep", new / "deep/settings") == [0o755, 0o755, 0o644]

    written = {path: path.stat().st_mtime_ns for path in package.parent.rglob("*")}
    assert lay_out(wanted) == []
    assert {path: path.stat().st_mtime_ns for path in package.parent.rglob("*")} == written


def test_a_directory_above_a_wanted_file_is_kept(package: Path, wanted: dict[str, Any]) -> None:
    for path in ("below/deep/kept.py", "below/stale.py", "other/deep/stale.py"):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text("")
    wanted["files"][str(package / "below/deep/kept.py")] = ""
    printed = lay_out(wanted)
    assert printed[:3] == [
        f"removed {package}/below/stale.py",
        f"removed {package}/other",
        f"removed {package}/stale.py",
    ]
    assert contents(package.parent) == wanted["files"]


def test_an_upgrade_removes_obsolete_files_and_directories_and_their_compiled_files(tmp_path: Path) -> None:
    """As between two versions of the service: flat files, and a directory that was renamed."""
    kept = ["guest_agent/_agent.py", "guest_agent/_watch/sources/libvirt.py", "service/config.py", "probe.py"]
    gone = ["guest_agent/wire.py", "guest_agent/channels/base.py", "guest_agent/watch/source.py", "service/state.py"]
    for name in gone:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    files = {str(tmp_path / name): "" for name in kept}
    lay_out({"files": files})
    compileall.compile_dir(tmp_path, quiet=1)
    compiled = [
        f"{directory}/__pycache__/{name}.{sys.implementation.cache_tag}.pyc"
        for directory, name in (("guest_agent", "wire"), ("service", "state"))
    ]
    top = [compiled[0], "guest_agent/channels", "guest_agent/watch", "guest_agent/wire.py"]
    removed = [f"removed {tmp_path}/{name}" for name in (*top, compiled[1], "service/state.py")]
    assert lay_out({"files": files, "whole": [str(tmp_path)]}) == removed
    assert contents(tmp_path).keys() == {*files, *map(cache_from_source, files)}


@pytest.mark.parametrize("whole", ["", "usr/lib/x", "/", "/usr", "/usr/lib"])
def test_a_path_of_the_system_is_never_cleaned_up(whole: str, tmp_path: Path) -> None:
    printed = f"'{whole}' is not a directory that may be cleaned up.\n"
    assert run({"files": {str(tmp_path / "a.py"): ""}, "whole": [whole]}, "--dry-run") == (1, "", printed)


@pytest.mark.parametrize("name", ["below", "__pycache__"])
def test_a_link_in_place_of_a_directory_is_removed_and_not_followed(tmp_path: Path, name: str) -> None:
    package, elsewhere = tmp_path / "package", tmp_path / "elsewhere"
    package.mkdir()
    elsewhere.mkdir()
    (elsewhere / "precious").touch()
    (package / name).symlink_to(elsewhere)
    files = {str(package / path): "" for path in ("a.py", "below/b.py")}
    assert lay_out({"files": files, "whole": [str(package)]})[0] == f"removed {package}/{name}"
    assert (elsewhere / "precious").exists()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_an_existing_file_keeps_its_mode_owner_and_group(package: Path, wanted: dict[str, Any], mode: int) -> None:
    owner = (0, 65534) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    package.chmod(0o700)
    os.chown(package / "other.py", *owner)
    (package / "other.py").chmod(mode)
    assert f"changed {package}/other.py" in lay_out(wanted)
    assert modes(package, package / "other.py") == [0o700, mode]
    found = (package / "other.py").stat()
    assert (found.st_uid, found.st_gid) == owner


def test_a_dry_run_needs_no_directory(tmp_path: Path) -> None:
    path = str(tmp_path / "none" / "file")
    assert lay_out({"files": {path: ""}, "whole": [str(tmp_path / "none")]}, "--dry-run") == [f"created {path}"]


@as_root
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_read_only_directory_is_an_error_before_anything_changes_but_only_if_something_would(
    package: Path, wanted: dict[str, Any], options: tuple[str, ...]
) -> None:
    read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    within = ("unshare", "--mount", "sh", "-c", read_only, str(package))
    before = contents(package.parent)
    assert run(wanted, *options, within=within) == (1, "", f"'{package}' cannot be written: Read-only file system.\n")
    assert contents(package.parent) == before
    lay_out(wanted)
    assert run(wanted, *options, within=within) == (0, "", "")


def test_files_links_and_directories_are_removed(package: Path) -> None:
    link = package.parent / "link"
    link.symlink_to(package)
    absent = [str(package / "same.py"), str(link), str(package / "__pycache__"), str(package / "never")]
    printed = [f"removed {path}" for path in sorted(absent[:3])]
    assert lay_out({"absent": absent}, "--dry-run") == printed
    assert lay_out({"absent": absent}) == printed
    assert sorted(path.name for path in package.iterdir()) == ["other.py", "stale.py"]
    assert lay_out({"absent": absent}) == []

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


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    package.mkdir()
    for name, content in {"same.py": "1\n", "other.py": "old\n", "stale.py": ""}.items():
        (package / name).write_text(content)
    (package / "__pycache__").mkdir()
    return package


@pytest.fixture
def wanted(package: Path) -> dict[str, Any]:
    contents = {"same.py": "1\n", "other.py": "new\n", "added.py": "# \u00e4\n", "../new/deep/settings": "a = b\n"}
    return {
        "files": {os.path.normpath(package / name): content for name, content in contents.items()},
        "whole": [str(package)],
    }


@pytest.fixture
def told(package: Path) -> list[str]:
    return [
        f"removed {package}/stale.py",
        f"created {package.parent}/new/deep/settings",
        f"created {package}/added.py",
        f"changed {package}/other.py",
    ]


def lay_out(wanted: dict[str, Any], *options: str) -> list[str]:
    """As the role runs it, under the umask of a cautious administrator."""
    command = [sys.executable, "-c", SCRIPT, *options]
    done = subprocess.run(command, input=json.dumps(wanted), capture_output=True, text=True, check=True, umask=0o077)
    return done.stdout.splitlines()


def contents(directory: Path) -> dict[str, str]:
    return {str(path): path.read_text(encoding="utf-8") for path in directory.rglob("*") if path.is_file()}


def test_the_files_are_as_wanted_and_the_directory_holds_no_others(
    package: Path, wanted: dict[str, Any], told: list[str]
) -> None:
    assert lay_out(wanted) == told
    assert contents(package.parent) == wanted["files"]
    assert (package / "__pycache__").is_dir()


def test_a_directory_on_the_way_to_a_wanted_file_is_no_stranger(package: Path, wanted: dict[str, Any]) -> None:
    for path in ("below/deep/kept.py", "below/stale.py", "other/deep/stale.py"):
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text("")
    wanted["files"][str(package / "below/deep/kept.py")] = ""
    told = lay_out(wanted)
    assert told[:3] == [f"removed {package}/below/stale.py", f"removed {package}/other", f"removed {package}/stale.py"]
    assert contents(package.parent) == wanted["files"]


def test_an_upgrade_removes_files_and_directories_that_are_gone_and_what_was_compiled_of_them(tmp_path: Path) -> None:
    """As between two versions of the service: flat files, and a directory that is another one now."""
    kept = ["guest_agent/_agent.py", "guest_agent/_watch/sources/libvirt.py", "service/config.py", "probe.py"]
    gone = ["guest_agent/wire.py", "guest_agent/channels/base.py", "guest_agent/watch/source.py", "service/state.py"]
    for name in gone:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    lay_out({"files": {str(tmp_path / name): "" for name in kept}})
    compileall.compile_dir(tmp_path, quiet=1)
    printed = lay_out({"files": {str(tmp_path / name): "" for name in kept}, "whole": [str(tmp_path)]})
    tag = f"{sys.implementation.cache_tag}.pyc"
    top = ("guest_agent/__pycache__/wire", "guest_agent/channels", "guest_agent/watch", "guest_agent/wire.py")
    assert printed == [
        f"removed {tmp_path}/{name}{f'.{tag}' if '__pycache__' in name else ''}"
        for name in (*top, "service/__pycache__/state", "service/state.py")
    ]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    caches = {cache_from_source(str(tmp_path / name)) for name in kept}
    assert left == {*kept, *(str(Path(path).relative_to(tmp_path)) for path in caches)}


@pytest.mark.parametrize("whole", ["", "usr/lib/x", "/", "/usr", "/usr/lib"])
def test_a_path_that_may_be_the_systems_is_never_cleaned_up(whole: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, "--dry-run"]
    given = json.dumps({"files": {str(tmp_path / "a.py"): ""}, "whole": [whole]})
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{whole or 'an empty path'} is not a directory that is cleaned up here.\n"


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


def test_everybody_may_read_what_was_made(package: Path, wanted: dict[str, Any]) -> None:
    lay_out(wanted)
    new = package.parent / "new"
    assert [path.stat().st_mode & 0o777 for path in (new, new / "deep", new / "deep/settings")] == [0o755, 0o755, 0o644]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_what_is_there_keeps_its_mode(package: Path, wanted: dict[str, Any], mode: int) -> None:
    package.chmod(0o700)
    (package / "other.py").chmod(mode)
    assert f"changed {package}/other.py" in lay_out(wanted)
    assert [path.stat().st_mode & 0o777 for path in (package, package / "other.py")] == [0o700, mode]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_there_keeps_its_owner_and_group(package: Path, wanted: dict[str, Any]) -> None:
    os.chown(package / "other.py", 0, 65534)
    (package / "other.py").chmod(0o640)
    lay_out(wanted)
    found = (package / "other.py").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (0, 65534, 0o640)


def test_a_second_run_does_nothing(package: Path, wanted: dict[str, Any]) -> None:
    lay_out(wanted)
    before = {path: path.stat().st_mtime_ns for path in package.parent.rglob("*")}
    assert lay_out(wanted) == []
    assert {path: path.stat().st_mtime_ns for path in package.parent.rglob("*")} == before


def test_a_dry_run_tells_the_same_and_does_nothing(package: Path, wanted: dict[str, Any], told: list[str]) -> None:
    before = contents(package.parent)
    assert lay_out(wanted, "--dry-run") == told
    assert contents(package.parent) == before


def test_a_dry_run_needs_no_directory(tmp_path: Path) -> None:
    path = str(tmp_path / "none" / "file")
    assert lay_out({"files": {path: ""}, "whole": [str(tmp_path / "none")]}, "--dry-run") == [f"created {path}"]


def lay_out_read_only(directory: Path, wanted: dict[str, Any], *options: str) -> subprocess.CompletedProcess[str]:
    """As lay_out, while the directory is on a read-only file system."""
    read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", read_only, str(directory), sys.executable, "-c", SCRIPT, *options]
    return subprocess.run(words, input=json.dumps(wanted), capture_output=True, text=True, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_directory_that_cannot_be_written_is_an_error_before_anything_changes(
    package: Path, wanted: dict[str, Any], options: tuple[str, ...]
) -> None:
    before = contents(package.parent)
    done = lay_out_read_only(package, wanted, *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{package} cannot be written: Read-only file system.\n"
    assert contents(package.parent) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_directory_that_cannot_be_written_does_not_matter_where_nothing_changes(
    package: Path, wanted: dict[str, Any]
) -> None:
    lay_out(wanted)
    done = lay_out_read_only(package, wanted)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_files_links_and_directories_are_removed(package: Path) -> None:
    link = package.parent / "link"
    link.symlink_to(package)
    absent = [str(package / "same.py"), str(link), str(package / "__pycache__"), str(package / "never")]
    assert (
        lay_out({"absent": absent}, "--dry-run")
        == lay_out({"absent": absent})
        == [f"removed {path}" for path in sorted(absent[:3])]
    )
    assert sorted(path.name for path in package.iterdir()) == ["other.py", "stale.py"]
    assert lay_out({"absent": absent}) == []

"""The collection for tests: importable in place, copied for ansible-test, installed for playbooks.

Python and Ansible require ``ansible_collections/NAMESPACE/NAME``; the clone may have any name.
Standard library only, so it runs in every virtual environment. From a shell: ``python -m tests.support.collection``.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
PACKAGE = Path("ansible_collections/qemu/guest_agent")
LONGEST_PLAYBOOK_S = 3600


def make_importable() -> Path:
    """Put a directory on sys.path from which ``ansible_collections.qemu.guest_agent`` is this clone."""
    search_path = BUILD / "importable"
    link = search_path / PACKAGE
    with _build_lock():
        if not link.is_symlink() or link.resolve() != ROOT:
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT, target_is_directory=True)
    if str(search_path) not in sys.path:
        sys.path.insert(0, str(search_path))
    return search_path


def copy_sources(search_path: Path) -> Path:
    """Copy the files that git tracks or would track below search_path, and return the collection's directory there."""
    destination = search_path / PACKAGE
    shutil.rmtree(destination, ignore_errors=True)
    for source in _sources():
        target = destination / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    return destination


def build() -> Path:
    """Build the collection's tarball into build/, from the sources alone, and return it."""
    with _build_lock():
        return _build()


def _build() -> Path:
    # A clone has files that build_ignore would have to list (environments, caches, editors' files); a copy has not.
    copy = copy_sources(BUILD / "tarball")
    return Path(_galaxy("build", "--force", "--output-path", str(BUILD), str(copy)).split(" at ")[-1].strip())


def install() -> Path:
    """Install the built tarball as a user would, and return the collections path. Each state of the sources has its own
    path, because a playbook may still run from another one.
    """
    all_paths = BUILD / "installed"
    collections_path = all_paths / _digest(_sources())[:16]
    with _build_lock():
        if not collections_path.exists():
            for path in all_paths.glob("*"):
                if time.time() - path.stat().st_mtime > LONGEST_PLAYBOOK_S:
                    shutil.rmtree(path, ignore_errors=True)
            part = all_paths / "part"
            shutil.rmtree(part, ignore_errors=True)
            _galaxy("install", "--offline", "-p", str(part), str(_build()))
            part.rename(collections_path)
    return collections_path


def _sources() -> list[Path]:
    listed = _run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"])
    # git also lists deleted files that are still in its index.
    return sorted(path for name in set(listed.split("\0")) if name and (path := ROOT / name).is_file())


def _digest(sources: list[Path]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        content = source.read_bytes()
        digest.update(f"{source.relative_to(ROOT)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _galaxy(*arguments: str) -> str:
    # Next to the running interpreter, so that each virtual environment uses its own ansible-core.
    return _run([str(Path(sys.executable).with_name("ansible-galaxy")), "collection", *arguments])


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


@contextlib.contextmanager
def _build_lock() -> Iterator[None]:
    """Let only one process at a time change build/."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main() -> None:
    copy = functools.partial(copy_sources, BUILD / "sanity")
    actions = {"link": make_importable, "copy": copy, "build": build, "install": install}
    parser = argparse.ArgumentParser(prog="python -m tests.support.collection")
    parser.add_argument("action", choices=actions)
    try:
        print(actions[parser.parse_args().action]())
    except (RuntimeError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""The collection, installed into an empty directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.__main__ import PLAYBOOK
from tests.processes.ansible_run import run_playbook
from tests.support.collection import BUILD, PACKAGE

PLAYBOOKS = ("gather_facts", "resync_fleet", "restore_guest", "resync_resumed_guest")


def run(collections_path: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without the clone and without collections that are installed on the machine.
    settings = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections_path),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
    }
    command = [str(Path(sys.executable).parent / program), *arguments]
    return subprocess.run(
        command, cwd=collections_path, env=settings, capture_output=True, text=True, check=False, timeout=120
    )


# A collection must work without its other files: not every installation has them.
NEEDED = {"meta", "playbooks", "plugins", "roles"}


@pytest.fixture(scope="module", params=["whole", "stripped"])
def usable(request: pytest.FixtureRequest, collections_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path with the whole collection, and one with only the directories that Ansible requires."""
    if request.param == "whole":
        return collections_path
    stripped = tmp_path_factory.mktemp("stripped")
    for name in NEEDED:
        shutil.copytree(collections_path / PACKAGE / name, stripped / PACKAGE / name, symlinks=True)
    return stripped


def test_its_files_match_its_manifest(collections_path: Path) -> None:
    done = run(collections_path, "ansible-galaxy", "collection", "verify", "--offline", "qemu.guest_agent")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("module", {"qga_info", "qga_update_time"}),
        ("connection", {"qga"}),
        ("inventory", {"libvirt_guests"}),
        ("role", {"extended_agent", "qga_deployment", "resync_on_resume"}),
    ],
)
def test_ansible_doc_lists_everything_by_its_full_name(usable: Path, kind: str, names: set[str]) -> None:
    done = run(usable, "ansible-doc", "--type", kind, "--list", "--json", "qemu.guest_agent")
    assert set(json.loads(done.stdout)) == {f"qemu.guest_agent.{name}" for name in names}, done.stderr


def test_playbooks_are_found_by_their_full_names(usable: Path) -> None:
    names = [f"qemu.guest_agent.{playbook}" for playbook in PLAYBOOKS]
    done = run(usable, "ansible-playbook", "-i", "localhost,", "--syntax-check", *names)
    assert done.returncode == 0, done.stderr


def test_a_module_runs(usable: Path) -> None:
    asked = ("-m", "qemu.guest_agent.qga_info", "-a", "socket=/nowhere")
    done = run(usable, "ansible", "-i", "localhost,", "-c", "local", *asked, "localhost")
    assert '"code": "not_found"' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("role", ["extended_agent", "resync_on_resume"])
def test_a_role_is_found_and_checks_its_arguments(usable: Path, role: str, tmp_path: Path) -> None:
    playbook = tmp_path / "play.yml"
    play = {"hosts": "localhost", "gather_facts": False, "roles": [f"qemu.guest_agent.{role}"]}
    playbook.write_text(json.dumps([play]))
    wrong = ("-e", f"{role}_state=sideways")
    done = run(usable, "ansible-playbook", "-i", "localhost,", "-c", "local", *wrong, str(playbook))
    assert f"value of {role}_state must be one of: present, absent" in done.stdout + done.stderr


def test_the_demo_runs_the_installed_collection_and_not_the_clone() -> None:
    done = run_playbook(PLAYBOOK, "-e", "guest=", "-vvv")
    assert "Using module file" in done.output, done.output
    (module,) = (line.split()[-1] for line in done.output.splitlines() if "Using module file" in line)
    assert Path(module).resolve().is_relative_to(BUILD / "installed")
    assert module.endswith(str(PACKAGE / "plugins/modules/qga_update_time.py"))

"""The packages that ansible-builder finds in the collection for an execution environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.docs.examples import Kind, kind_of, of_language, yaml_of
from tests.support.collection import ROOT

# It needs the environment for releases.
pytestmark = pytest.mark.thorough
PROGRAMS = ROOT / ".venvs/release/bin"
TO_BUILD = {"gcc", "libvirt-dev", "pkg-config", "python3-dev"}
TO_RUN = {"libvirt0"}


@pytest.fixture(scope="module")
def introspected(collections_path: Path) -> dict[str, list[str]]:
    done = subprocess.run(
        [PROGRAMS / "ansible-builder", "introspect", collections_path], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = yaml.safe_load(done.stdout)
    return found


FROM_HERE = "  # from collection qemu.guest_agent"


def test_it_needs_libvirt_python_and_no_development_package(introspected: dict[str, list[str]]) -> None:
    assert introspected["python"] == [f"libvirt-python>=7.0.0{FROM_HERE}"]
    lines = introspected["system"]
    assert all(line.endswith(FROM_HERE) for line in lines)
    assert [line for line in lines if "test" in line] == []
    families = [sum(f"platform:{family}]" in line for line in lines) for family in ("rpm", "dpkg")]
    assert families == [5, 5]


@pytest.mark.skipif(
    shutil.which("dpkg-query") is None, reason="bindep selects packages for the machine that it runs on"
)
@pytest.mark.parametrize(
    ("profiles", "packages"),
    [
        pytest.param(["compile"], TO_BUILD | TO_RUN, id="build"),
        pytest.param([], TO_RUN, id="run"),
    ],
)
def test_packages_on_debian(installed: Path, profiles: list[str], packages: set[str]) -> None:
    done = subprocess.run(
        [PROGRAMS / "bindep", "-l", "newline", "-f", installed / "meta/ee-bindep.txt", *profiles],
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == packages, done.stderr


def test_ansible_builder_accepts_the_example_of_the_guide(tmp_path: Path) -> None:
    (example,) = (each for each in of_language("yaml") if kind_of(yaml_of(each)) is Kind.EXECUTION_ENVIRONMENT)
    (tmp_path / "execution-environment.yml").write_text(example.text)
    subprocess.run([PROGRAMS / "ansible-builder", "create"], cwd=tmp_path, check=True)
    requirements = yaml.safe_load((tmp_path / "context/_build/requirements.yml").read_text())
    assert requirements == example_of_requirements()


def example_of_requirements() -> object:
    (example,) = (each for each in of_language("yaml") if kind_of(yaml_of(each)) is Kind.REQUIREMENTS)
    return yaml_of(example)

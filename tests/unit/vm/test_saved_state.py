from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.role_package import ROOT
from tests.vm import saved_state
from tests.vm.image import Image
from tests.vm.saved_state import EXTENDED, PLAIN, GuestKind, state_key

CPUINFO = """\
processor\t: {number}
vendor_id\t: AuthenticAMD
cpu family\t: 26
model\t\t: 2
model name\t: {name}
stepping\t: 1
cpu MHz\t\t: {mhz}
flags\t\t: fpu vme {flags}
"""


@dataclasses.dataclass
class Connection:
    """A connection as far as the key uses one."""

    version: int = 9_000_000
    models: str = "<secmodel><model>dac</model></secmodel>"

    def getLibVersion(self) -> int:  # noqa: N802  # libvirt's name
        return self.version

    def getCapabilities(self) -> str:  # noqa: N802  # libvirt's name
        return f"<capabilities><host>{self.models}</host></capabilities>"


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "bin/qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'QEMU emulator version 7.2.22'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    return program


@pytest.fixture
def role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what the role is made of."""
    for name in ("roles/extended_agent", "roles/qga_deployment", "plugins/module_utils"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(saved_state, "ROOT", tmp_path)
    return tmp_path


def key(kind: GuestKind = PLAIN, image: str = "/cache/bookworm-1", **connection: Any) -> str:
    return state_key(kind, Image(Path(image)), Connection(**connection))


@pytest.mark.usefixtures("qemu")
class TestTheKey:
    def test_is_the_same_as_long_as_nothing_changes(self) -> None:
        assert key() == key()

    def test_has_the_image(self) -> None:
        assert key(image="/cache/bookworm-2") != key()

    def test_has_where_the_image_lies_since_the_domain_boots_from_there(self) -> None:
        assert key(image="/elsewhere/bookworm-1") != key()

    def test_has_libvirts_version(self) -> None:
        assert key(version=11_003_000) != key()

    def test_has_the_domains_xml(self) -> None:
        assert key(models="") != key()

    def test_has_qemus_version_by_package(self, qemu: Path) -> None:
        before = key()
        qemu.write_text("#!/bin/sh\necho 'QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)'\n")
        assert key() != before

    def test_is_another_for_every_kind(self) -> None:
        kinds = [PLAIN, EXTENDED, GuestKind(catches_up=True), GuestKind("trixie"), GuestKind(kind="hypervisor")]
        assert len({key(kind) for kind in kinds}) == len(kinds)
        assert len({kind.label for kind in kinds}) == len(kinds)

    @pytest.mark.parametrize(
        "name",
        [
            "roles/extended_agent/files/qemu_ga_extended/clock.py",
            "roles/extended_agent/tasks/switch.yml",
            "roles/extended_agent/templates/switch.j2",
            "roles/extended_agent/defaults/main.yml",
            "roles/qga_deployment/files/lay_out.py",
            "plugins/module_utils/_protocol/framing.py",
        ],
    )
    def test_of_a_deployed_agent_has_every_file_that_gets_into_the_guest(self, role: Path, name: str) -> None:
        extended, plain = key(EXTENDED), key(PLAIN)
        with (role / name).open("a") as file:
            file.write("\n")
        assert key(EXTENDED) != extended
        assert key(PLAIN) == plain

    def test_of_a_deployed_agent_has_the_names_of_its_files(self, role: Path) -> None:
        before = key(EXTENDED)
        (role / "roles/extended_agent/templates/new.j2").touch()
        assert key(EXTENDED) != before

    @pytest.mark.parametrize(
        "name", ["plugins/module_utils/_fleet/results.py", "roles/extended_agent/files/__pycache__/x.pyc"]
    )
    def test_of_a_deployed_agent_has_no_other_files(self, role: Path, name: str) -> None:
        before = key(EXTENDED)
        (role / name).parent.mkdir(exist_ok=True)
        with (role / name).open("a") as file:
            file.write("\n")
        assert key(EXTENDED) == before


class TestTheProcessor:
    def cpu(self, number: int = 0, name: str = "AMD EPYC", mhz: str = "2596.1", flags: str = "sse2") -> dict[str, str]:
        first = CPUINFO.format(number=0, name=name, mhz=mhz, flags=flags)
        return saved_state._cpu(first + "\n" + CPUINFO.format(number=number, name="another", mhz="1", flags=""))

    def test_is_another_with_another_name_or_other_flags(self) -> None:
        assert self.cpu(name="AMD Ryzen") != self.cpu()
        assert self.cpu(flags="sse2 avx") != self.cpu()

    def test_is_the_same_however_fast_it_runs_at_the_moment(self) -> None:
        assert self.cpu(mhz="1400.0") == self.cpu()

    def test_is_known_by_its_first_core(self) -> None:
        assert self.cpu(number=1) == self.cpu(number=2)
        assert self.cpu()["flags"] == "fpu vme sse2"

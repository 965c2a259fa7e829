"""The script that installs and removes the SELinux module, with a stand-in for semodule(8)."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.role_package import ROOT

SCRIPT = (ROOT / "roles/extended_agent/files/selinux.sh").read_text(encoding="utf-8")
SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox", "ksh", "zsh") if shutil.which(shell)]
MODULE = '; it\'s a "module"\n(type a_t)\n\\n $HOME `id`\n'
# As semodule(8) of policycoreutils 3.4: a module has the name of its file, and CIL is stored unchanged.
SEMODULE = """#!/bin/sh
store={store}
echo "$*" >>"$store/calls"
case $* in
"--list-modules=full")
    test ! -e "$store/$(cat "$store/name")" || echo "400 $(cat "$store/name") cil"
    echo "100 $(cat "$store/name")-too pp"
    echo "100 base             pp"
    ;;
"-X 400 --cil -E "*) cp "$store/$5" "$5.cil" ;;
"-X 400 -i "*) test -e "$4" && ! test -e "$store/refuses" && cp "$4" "$store/${{4%.cil}}" ;;
"-X 400 -r "*) rm "$store/$4" ;;
*) exit 64 ;;
esac || {{ echo "semodule:  Failed!" >&2; exit 1; }}
"""

pytestmark = pytest.mark.slow


class System:
    """``installed``: the module in its policy, if any."""

    def __init__(self, directory: Path, installed: str | None = None, has_semodule: bool = True) -> None:
        self.store = directory / "store"
        self.store.mkdir()
        self._module = self.store / "a-name"
        (self.store / "name").write_text("a-name")
        if installed is not None:
            self._module.write_text(installed)
        programs = directory / "programs"
        programs.mkdir()
        for name in ("sh", "cat", "cp", "rm", "cmp", "grep", "mktemp", "dash", "bash", "busybox", "ksh", "zsh"):
            if found := shutil.which(name):
                (programs / name).symlink_to(found)
        if has_semodule:
            (programs / "semodule").write_text(SEMODULE.format(store=shlex.quote(str(self.store))))
            (programs / "semodule").chmod(0o755)
        self._programs = programs
        self._temporary = directory / "temporary"
        self._temporary.mkdir()

    def run(self, wanted: bool, check: bool = False, shell: str = "sh") -> tuple[int, str, str]:
        """Run the script; return its status and output."""
        yes = {True: "yes", False: "no"}
        head = f"wanted={yes[wanted]} check={yes[check]} name=a-name\nmodule={shlex.quote(MODULE)}\n"
        done = subprocess.run(
            [shell, *(["sh"] if shell == "busybox" else []), "-c", head + SCRIPT.replace(":/usr/sbin:/sbin", "")],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env={"PATH": str(self._programs), "TMPDIR": str(self._temporary)},
        )
        assert list(self._temporary.iterdir()) == []
        return done.returncode, done.stdout, done.stderr

    @property
    def module(self) -> str | None:
        return self._module.read_text() if self._module.exists() else None


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("installed", [None, MODULE, "; another version\n"], ids=["none", "same", "other"])
def test_the_module_is_installed_updated_or_removed(
    tmp_path: Path, shell: str, wanted: bool, installed: str | None
) -> None:
    expected = MODULE if wanted else None
    changed = "" if installed == expected else "changed\n"
    system = System(tmp_path, installed)
    assert system.run(wanted, check=True, shell=shell) == (0, changed, "")
    assert system.module == installed, "check mode changes nothing"
    assert system.run(wanted, shell=shell) == (0, changed, "")
    assert system.module == expected
    assert system.run(wanted, shell=shell) == (0, "", "")


def test_a_rejected_module_is_an_error_with_semodules_message(tmp_path: Path) -> None:
    system = System(tmp_path)
    (system.store / "refuses").touch()
    status, _stdout, stderr = system.run(wanted=True)
    assert status != 0
    assert "semodule:  Failed!" in stderr
    assert system.module is None


def test_without_semodule_removal_has_nothing_to_do_and_installation_fails(tmp_path: Path) -> None:
    system = System(tmp_path, has_semodule=False)
    assert system.run(wanted=False) == (0, "", "")
    assert system.run(wanted=True) == (1, "", "semodule is not installed\n")

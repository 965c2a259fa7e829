# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the code on the host cannot do, whatever a guest sends, since it has no means to."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import extended_agent, resync_service
from tests.support.role_package import SHARED, RolePackage

ROOT = Path(__file__).parents[3]
# All that runs on a controller or a hypervisor.
SOURCES = sorted(
    path
    for directory in ("plugins", "extensions/eda/plugins", "roles/resync_on_resume/files")
    for path in (ROOT / directory).rglob("*.py")
)

PROTOCOL = "plugins/module_utils"

SETTING_A_CLOCK = {"clock_settime", "clock_settime_ns", "settimeofday", "adjtimex", "ntp_adjtime", "stime", "adjtime"}
RUNNING_A_PROGRAM = {
    *("subprocess", "system", "popen", "Popen", "run_command", "fork", "forkpty", "pty"),
    *("execv", "execve", "execvp", "execvpe", "execl", "execle", "execlp", "posix_spawn", "posix_spawnp", "startfile"),
}
INTERPRETING_TEXT = {
    *("eval", "exec", "compile", "__import__", "pickle", "marshal", "shelve", "yaml"),
    *("Templar", "Template", "Environment", "template", "from_string", "compile_expression"),
    *("DictLoader", "FunctionLoader", "ChoiceLoader", "PrefixLoader"),
}
# The report is a template, and this is the one file that has Jinja2 read it: not by way of Ansible, and no other text.
RENDERING = ROOT / "plugins/plugin_utils/_report/page.py"
# Regular expressions are compiled, and from literals only.
PARTS_OF_RE = "re"


def names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a file uses, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == PARTS_OF_RE):
                yield node.attr, node.lineno
        elif isinstance(node, ast.alias):
            yield from ((part, node.lineno) for part in node.name.split("."))


def uses(path: Path, forbidden: set[str]) -> list[str]:
    return [f"{path.name}:{line}: {name}" for name, line in names(ast.parse(path.read_text())) if name in forbidden]


def test_all_of_it_is_looked_at() -> None:
    some = {"framing.py", "resync.py", "qga_info.py", "libvirt.py", "page.py", "service.py", "libvirt_guest.py"}
    assert some <= {path.name for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
class TestNoFile:
    def test_can_set_this_machines_clock(self, path: Path) -> None:
        assert uses(path, SETTING_A_CLOCK) == []

    def test_can_run_a_program(self, path: Path) -> None:
        assert uses(path, RUNNING_A_PROGRAM) == []

    def test_can_interpret_text(self, path: Path) -> None:
        # What is in "guest" runs there, and reads code that nobody but its own user can have written.
        in_guests = {"marshal"} if path.parent.name == "guest" else set()
        assert uses(path, INTERPRETING_TEXT - in_guests) == []


def imported(path: Path) -> set[str]:
    """The modules that a file names in its imports; those beside it with their dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found.update([module] if node.module else (module + alias.name for alias in node.names))
    return found


def collection_files(path: Path) -> Iterator[Path]:
    """Yield the files of the collection that a file names in its imports, where a role copies it as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            package, *names = (node.module or "").split(".")
            if node.level:
                base = path.parents[node.level - 1].joinpath(package, *names)
            elif package == SHARED:
                base = (ROOT / PROTOCOL).joinpath(*names)
            else:
                continue
            named = [base] if base.with_suffix(".py").is_file() else [base / alias.name for alias in node.names]
            files = [found.with_suffix(".py") for found in named]
            yield from (file if file.is_file() else base / "__init__.py" for file in files)


def importers(package: str) -> set[str]:
    """The files of the protocol that import a package, or one in it."""
    return {
        str(path.relative_to(ROOT / PROTOCOL))
        for path in (ROOT / PROTOCOL).rglob("*.py")
        if any(name.partition(".")[0] == package for name in imported(path))
    }


class TestTheProtocol:
    def test_meets_ansible_in_one_file(self) -> None:
        assert importers("ansible") == {"_module.py"}
        assert importers("ansible_collections") == set()

    @pytest.mark.parametrize("package", ["libvirt", "libvirt_qemu"])
    def test_meets_libvirt_in_one_file(self, package: str) -> None:
        assert importers(package) == {"_hypervisor/connections.py"}

    @pytest.mark.parametrize("package", [extended_agent.PACKAGE, resync_service.PACKAGE], ids=lambda each: each.role)
    def test_goes_with_a_role_whole_and_with_nothing_foreign(self, package: RolePackage) -> None:
        copied = set(package.sources())
        wings = {path.parent for path in copied} - {ROOT / PROTOCOL}
        assert {path for wing in wings for path in wing.rglob("*.py")} <= copied
        assert {path for file in copied for path in collection_files(file)} <= copied
        foreign = {name.partition(".")[0] for file in copied for name in imported(file) if not name.startswith(".")}
        assert foreign <= sys.stdlib_module_names | {SHARED, "libvirt", "libvirt_qemu"}


def test_the_kernels_clock_is_asked_in_one_place_and_only_to_tell() -> None:
    # That it is asked with modes 0 is shown with the other tests of reference.py.
    users = {path.name for path in SOURCES if uses(path, {"clock_adjtime", "Timex"})}
    assert users == {"timex.py", "reference.py"}
    calls = [
        ast.unparse(node)
        for node in ast.walk(ast.parse((ROOT / "plugins/module_utils/_clock/reference.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Timex"
    ]
    assert calls == ["Timex(modes=0)"]


@pytest.mark.parametrize(
    ("source", "forbidden"),
    [
        ("import subprocess", RUNNING_A_PROGRAM),
        ("from os import system", RUNNING_A_PROGRAM),
        ("module.run_command('x')", RUNNING_A_PROGRAM),
        ("time.clock_settime(0, 1)", SETTING_A_CLOCK),
        ("eval(x)", INTERPRETING_TEXT),
        ("from ansible.template import Templar", INTERPRETING_TEXT),
    ],
)
def test_it_would_be_found(source: str, forbidden: set[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source)
    assert uses(tmp_path / "a.py", forbidden)

"""The limits of the code: which directory may import which, and what it has no means to do, whatever a guest sends."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import extended_agent, resync_service
from tests.support.role_package import SHARED, RolePackage

ROOT = Path(__file__).parents[3]
PYTHON = sorted(
    path for folder in ("plugins", "roles", "extensions", "tests") for path in (ROOT / folder).rglob("*.py")
)
PRODUCT = [path for path in PYTHON if not path.is_relative_to(ROOT / "tests")]
# All but what sets a guest's clock, in the guest, and what copies the roles' files.
SOURCES = [
    path
    for path in PRODUCT
    if not any((ROOT / "roles" / role) in path.parents for role in ("extended_agent", "qga_deployment"))
]

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
        rendering = {"Environment"} if path == RENDERING else set()
        assert uses(path, INTERPRETING_TEXT - in_guests - rendering) == []


def test_the_text_of_templates_comes_from_the_collections_own_files() -> None:
    calls = [node for node in ast.walk(ast.parse(RENDERING.read_text())) if isinstance(node, ast.Call)]
    (environment,) = (call for call in calls if ast.unparse(call.func) == "jinja2.Environment")
    options = {option.arg: ast.unparse(option.value) for option in environment.keywords}
    assert (options["autoescape"], options["loader"]) == ("True", "jinja2.FileSystemLoader(_HERE)")
    (rendered,) = (call for call in calls if ast.unparse(call.func).endswith("get_template"))
    assert ast.unparse(rendered) == "_environment().get_template('page.html.j2')"
    assert "_HERE = Path(__file__).parent\n" in RENDERING.read_text()
    for path in RENDERING.parent.glob("*.j2"):
        named = re.findall(r"\{%-? *(?:include|import|from|extends) +([^ %]+)", path.read_text(encoding="utf-8"))
        assert all(re.fullmatch(r'"[a-z]+\.html\.j2"', name) for name in named)
        assert not re.search(r"\bsafe\b|autoescape", path.read_text(encoding="utf-8"))


# Each may import those before it. A new wing gets its place here, and in ARCHITECTURE.md.
FLOORS = (
    ("_event_loop", "_linux", "_protocol", "_untrusted.py"),
    ("_errors.py",),
    ("_hypervisor", "_ranges.py"),
    ("_channels", "_watch"),
    ("_agent.py", "_targets.py"),
    ("_clock", "_fleet"),
    ("_facts", "_module.py"),
)
FLOOR = {wing: number for number, floor in enumerate(FLOORS) for wing in floor}


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file names in its imports, but for relative ones."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


def files_imported(path: Path) -> Iterator[Path]:
    """Yield the files of the collection that a file names in its imports, lazy ones and those of a role included."""
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


def on_hypervisors() -> list[Path]:
    return sorted((ROOT / PROTOCOL).rglob("*.py"))


def wing(path: Path) -> str:
    return path.relative_to(ROOT / PROTOCOL).parts[0]


COLLECTION = "ansible_collections.qemu.guest_agent.plugins"
ON_CONTROLLERS = ("ansible", "jinja2", "markupsafe", f"{COLLECTION}.module_utils", f"{COLLECTION}.plugin_utils")
# The first table of ARCHITECTURE.md: what each path may import beside the standard library and its own files.
MAY_IMPORT = {
    "plugins/doc_fragments": (),
    "plugins/modules": ("ansible.module_utils", f"{COLLECTION}.module_utils"),
    PROTOCOL: ("ansible.module_utils", "libvirt", "libvirt_qemu"),
    "plugins/connection": ON_CONTROLLERS,
    "plugins/inventory": ON_CONTROLLERS,
    "plugins/filter": ON_CONTROLLERS,
    "plugins/plugin_utils": ON_CONTROLLERS,
    "roles/extended_agent/files": (f"{SHARED}._linux", f"{SHARED}._protocol"),
    "roles/resync_on_resume/files": (SHARED,),
    "roles/qga_deployment/files": (),
    "extensions/eda": (f"{COLLECTION}.module_utils",),
}


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_path_imports_only_what_it_may(path: Path) -> None:
    (folder,) = (name for name in MAY_IMPORT if path.is_relative_to(ROOT / name))
    allowed = (*sys.stdlib_module_names, *MAY_IMPORT[folder])
    foreign = [name for name in imported(path) if not any(f"{name}.".startswith(f"{each}.") for each in allowed)]
    assert foreign == []
    elsewhere = {found for found in files_imported(path) if not found.is_relative_to(ROOT / folder)}
    assert all(found.is_relative_to(ROOT / PROTOCOL) for found in elsewhere)


def importers(package: str) -> set[str]:
    """Return the wings of module_utils that import a package, or a module in it."""
    return {
        wing(path) for path in on_hypervisors() if any(name.partition(".")[0] == package for name in imported(path))
    }


class TestWhatRunsOnHypervisors:
    def test_imports_ansible_in_one_file(self) -> None:
        assert importers("ansible") == {"_module.py"}

    @pytest.mark.parametrize("package", ["libvirt", "libvirt_qemu"])
    def test_imports_libvirt_in_one_wing(self, package: str) -> None:
        assert importers(package) == {"_hypervisor"}

    def test_has_its_place_on_a_floor(self) -> None:
        assert {wing(path) for path in on_hypervisors()} == set(FLOOR)

    @pytest.mark.parametrize("path", on_hypervisors(), ids=lambda path: str(path.relative_to(ROOT / PROTOCOL)))
    def test_imports_its_own_wing_and_lower_floors_only(self, path: Path) -> None:
        others = {wing(found) for found in files_imported(path)} - {wing(path)}
        assert {name for name in others if FLOOR[name] >= FLOOR[wing(path)]} == set()

    @pytest.mark.parametrize("package", [extended_agent.PACKAGE, resync_service.PACKAGE], ids=lambda each: each.role)
    def test_goes_with_a_role_whole_and_with_nothing_foreign(self, package: RolePackage) -> None:
        copied = set(package.sources())
        wings = {path.parent for path in copied} - {ROOT / PROTOCOL}
        assert {path for folder in wings for path in folder.rglob("*.py")} <= copied
        assert {path for file in copied for path in files_imported(file)} <= copied
        foreign = {name.partition(".")[0] for file in copied for name in imported(file)}
        assert foreign <= sys.stdlib_module_names | {SHARED, "libvirt", "libvirt_qemu"}


def test_shared_code_is_private() -> None:
    names = [path.name for folder in ("module_utils", "plugin_utils") for path in (ROOT / "plugins" / folder).iterdir()]
    assert [name for name in names if not name.startswith("_")] == []


# Documentation that Ansible reads from a file's variables.
DOCUMENTATION = ("DOCUMENTATION", "EXAMPLES", "RETURN", "ATTRIBUTES")
LONGEST_TEXT = 5  # lines
# Texts that are tables.
TABLES = {ROOT / "plugins/module_utils" / name for name in ("_facts/shapes.py", "_protocol/commands.py")}
LONGEST_FILE = 450  # lines


def documentation_of(tree: ast.Module) -> list[ast.expr]:
    return [
        node.value
        for found in ast.walk(tree)
        if isinstance(found, (ast.Module, ast.ClassDef))
        for node in found.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in DOCUMENTATION
    ]


def docstrings_of(tree: ast.Module) -> list[ast.expr]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    first = [node.body[0] for node in ast.walk(tree) if isinstance(node, kinds) and node.body]
    return [node.value for node in first if isinstance(node, ast.Expr)]


def lines_of(node: ast.expr) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@pytest.mark.parametrize("path", sorted({*PRODUCT} - TABLES), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_program_is_in_a_string(path: Path) -> None:
    tree = ast.parse(path.read_text())
    known = {id(node) for node in (*documentation_of(tree), *docstrings_of(tree))}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [f"line {node.lineno}" for node in texts if id(node) not in known and lines_of(node) > LONGEST_TEXT] == []


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_longer_than_a_reader_can_follow(path: Path) -> None:
    text = path.read_text()
    documented = sum(map(lines_of, documentation_of(ast.parse(text))))
    assert len(text.splitlines()) - documented <= LONGEST_FILE


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

"""The page on error codes has every existing code, and no other."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.codes import HINTS

from tests.docs.examples import GUIDES
from tests.support.collection import ROOT

PLUGINS = ROOT / "plugins"
PAGE = (GUIDES / "troubleshooting.rst").read_text(encoding="utf-8")
SECTION = re.compile(r"^``(\w+)``\n-+\n\n(.*?)(?=^\.\. _|^[^\n]+\n[=-]+\n|\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SECTION.findall(PAGE))

OPTIONS = (
    *("timeout", "wait_timeout", "fail_on", "deadline", "tolerance", "attempts", "require_synchronized_host"),
    *("allow_empty", "skip_unusable", "exec_timeout", "max_output", "guest_directories", "gather_subset"),
)


def kinds(family: type[QgaError]) -> Iterator[type[QgaError]]:
    yield family
    for child in family.__subclasses__():
        yield from kinds(child)


def test_the_page_has_every_code_and_no_other() -> None:
    base = QgaError.__module__.partition(".module_utils")[0]
    for path in PLUGINS.glob("*_utils/**/*.py"):
        if re.search(r"^class \w+\(.*Error\):", path.read_text(encoding="utf-8"), re.MULTILINE):
            importlib.import_module(".".join((base, *path.relative_to(PLUGINS).with_suffix("").parts)))
    raised = {kind.code for kind in kinds(QgaError) if kind.__module__.startswith(base)}
    assert set(SECTIONS) == raised | set(HINTS)


def test_codes_are_defined_nowhere_else() -> None:
    """Roles and event sources use the collection's codes."""
    elsewhere = [
        path
        for folder in ("roles", "extensions", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^    code(: ClassVar\[str\])? = \"", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert [str(path.relative_to(PLUGINS)) for path in sorted(elsewhere)] == [
        "module_utils/_errors.py",
        "module_utils/_protocol/errors.py",
        "plugin_utils/_connection/errors.py",
    ]


@pytest.mark.parametrize("heading", ["Cause", "What to do"])
def test_each_code_has_a_cause_and_a_remedy(heading: str) -> None:
    field = re.compile(rf"^:{heading}: \S", re.MULTILINE)
    assert [code for code, text in SECTIONS.items() if field.search(text) is None] == []


def test_the_options_on_the_page_exist() -> None:
    files = ("doc_fragments/target.py", "modules/qga_update_time.py", "modules/qga_info.py", "connection/qga.py")
    documented = "".join((PLUGINS / name).read_text(encoding="utf-8") for name in files)
    for option in OPTIONS:
        assert f"``{option}" in PAGE
        assert f"\n  {option}:\n" in documented

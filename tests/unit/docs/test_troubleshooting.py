"""The page on error codes has every code there is, and no other."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import QgaError

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


def modules() -> Iterator[str]:
    """The modules in which an error is defined, as the tree has them."""
    for path in sorted([*PLUGINS.glob("module_utils/**/*.py"), *PLUGINS.glob("plugin_utils/**/*.py")]):
        if re.search(r"^class \w+\(.*Error\):", path.read_text(encoding="utf-8"), re.MULTILINE):
            yield ".".join(path.relative_to(PLUGINS).with_suffix("").parts)


def kinds(family: type[QgaError]) -> Iterator[type[QgaError]]:
    yield family
    for child in family.__subclasses__():
        yield from kinds(child)


def codes() -> set[str]:
    base = QgaError.__module__.partition(".module_utils")[0]
    for name in modules():
        importlib.import_module(f"{base}.{name}")
    return {kind.code for kind in kinds(QgaError) if kind.__module__.startswith(base)}


def test_it_has_every_code_and_no_other() -> None:
    assert set(SECTIONS) == codes()


def test_codes_are_defined_nowhere_else() -> None:
    """Roles and event sources use those of the collection."""
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


@pytest.mark.parametrize("code", sorted(SECTIONS))
def test_each_has_a_cause_and_something_to_do(code: str) -> None:
    assert re.search(r"^:Cause: \S", SECTIONS[code], re.MULTILINE)
    assert re.search(r"^:What to do: \S", SECTIONS[code], re.MULTILINE)


def test_the_options_that_it_names_are_there() -> None:
    documented = "".join(
        Path(ROOT / "plugins" / name).read_text(encoding="utf-8")
        for name in (
            "doc_fragments/target.py",
            "modules/qga_update_time.py",
            "modules/qga_info.py",
            "connection/qga.py",
        )
    )
    for option in OPTIONS:
        assert f"``{option}" in PAGE
        assert f"\n  {option}:\n" in documented

"""The links of the reference documentation lead somewhere, in a terminal as on the web."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.collection import ROOT

REPOSITORY = yaml.safe_load((ROOT / "galaxy.yml").read_text())["repository"]
FILES = [
    *(path for folder in ("modules", "connection", "inventory") for path in (ROOT / "plugins" / folder).glob("*.py")),
    *(ROOT / "plugins/filter").glob("*.yml"),
    *(ROOT / "extensions/eda/plugins/event_source").glob("*.py"),
    *(ROOT / "roles").glob("*/meta/argument_specs.yml"),
]


def documentation(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yml":
        return yaml.safe_load(text)
    (found,) = (
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION"
    )
    return yaml.safe_load(ast.literal_eval(found))


def entries(value: Any) -> Iterator[dict[str, str]]:
    if isinstance(value, dict):
        yield from value.get("seealso", ())
        for each in value.values():
            yield from entries(each)


LINKS = [
    pytest.param(entry, id=f"{path.stem}: {entry.get('name') or entry.get('module') or entry.get('plugin')}")
    for path in FILES
    for entry in entries(documentation(path))
]


@pytest.mark.parametrize("entry", LINKS)
def test_a_see_also_entry_leads_somewhere(entry: dict[str, str]) -> None:
    # A ref is a label of Sphinx. ansible-doc turns it into a search on a site that does not have this collection.
    assert "ref" not in entry
    _before, in_repository, path = entry.get("link", "").partition(f"{REPOSITORY}/blob/main/")
    if in_repository:
        assert (ROOT / path).is_file()
    else:
        assert entry.get("link", "https://").startswith("https://")

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's files that the service is shipped with: all that it needs, even if seldom, and no more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.qemu.guest_agent.tests.support.resync_service import PACKAGE


def imported_by(path: Path, root: Path) -> Iterator[Path]:
    """What a file imports of either package, as files that may be or not."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = path.parents[node.level - 1]
        elif (node.module or "").split(".")[0] in (PACKAGE.name, PACKAGE.shared):
            base = root
        else:
            continue
        module = base.joinpath(*(node.module or "").split(".")) if node.module else base
        if module.with_suffix(".py").exists() or not module.is_dir():
            yield module.with_suffix(".py")
        else:
            yield from (module / f"{name.name}.py" for name in node.names)


def test_every_import_finds_its_file_and_every_file_is_imported() -> None:
    root = PACKAGE.parent()
    wanted = [root / PACKAGE.name / "__main__.py"]
    reached: set[Path] = set()
    while wanted:
        path = wanted.pop()
        if path not in reached:
            assert path.is_file(), f"{path.relative_to(root)} is imported and not shipped"
            reached.add(path)
            wanted.extend(imported_by(path, root))
    shipped = {root / PACKAGE.shared / name for name in PACKAGE.shared_files() if not name.endswith("__init__.py")}
    assert {path for path in reached if PACKAGE.shared in path.parts} == shipped

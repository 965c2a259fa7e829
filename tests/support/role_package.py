# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Python package that a role deploys, put together as the role does it."""

from __future__ import annotations

import functools
import importlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import yaml

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class RolePackage:
    """``shared`` is the package that files of plugins/module_utils lie in there: ``name`` itself, or one beside it."""

    role: str
    name: str
    shared: str

    def shared_files(self) -> list[str]:
        """By the role's own list."""
        variables = yaml.safe_load((ROOT / "roles" / self.role / "vars" / "main.yml").read_text())
        return list(variables[f"{self.role}_shared_files"])

    def assemble(self, parent: Path) -> Path:
        """Put it together below a directory, which is returned."""
        for package in (self.name, self.shared):
            shutil.rmtree(parent / package, ignore_errors=True)
        (parent / self.name).mkdir(parents=True)
        for source in sorted((ROOT / "roles" / self.role / "files" / self.name).glob("*.py")):
            shutil.copy2(source, parent / self.name)
        for name in self.shared_files():
            target = parent / self.shared / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / "plugins" / "module_utils" / name, target)
        return parent

    def parent(self) -> Path:
        """The directory that one assembled package of this process lies in."""
        return Path(_assembled(self).name)

    def module(self, name: str, package: str | None = None) -> ModuleType:
        """One module of it, or of another package beside it."""
        parent = str(self.parent())
        if parent not in sys.path:
            sys.path.insert(0, parent)
        return importlib.import_module(f"{package or self.name}.{name}")


@functools.cache
def _assembled(package: RolePackage) -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory(prefix=f"{package.name}-")
    package.assemble(Path(directory.name))
    return directory

"""The Python package that a role deploys, assembled as the role does."""

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
SHARED = "guest_agent"


def target_of(source: Path) -> Path:
    """Return the place of a source below the directory that it is copied to."""
    below = source.relative_to(ROOT)
    return Path(*below.parts[3:]) if below.parts[0] == "roles" else Path(SHARED, *below.parts[2:])


@dataclass(frozen=True)
class RolePackage:
    """``name`` is the role's own package. Files of plugins/module_utils are in the package guest_agent next to it."""

    role: str
    name: str

    def sources(self, root: Path = ROOT) -> list[Path]:
        """Return the files below ``root`` that are copied, by the role's own list."""
        variables = yaml.safe_load((ROOT / "roles" / self.role / "vars/main.yml").read_text())
        found = {pattern: list(root.glob(pattern)) for pattern in variables[f"{self.role}_code"]}
        assert all(found.values()), f"nothing matches one of {[pattern for pattern in found if not found[pattern]]}"
        return sorted(path for paths in found.values() for path in paths)

    def assemble(self, parent: Path) -> Path:
        for package in (self.name, SHARED):
            shutil.rmtree(parent / package, ignore_errors=True)
        for source in self.sources():
            target = parent / target_of(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return parent

    def parent(self) -> Path:
        """Return the directory that contains this process's assembled package."""
        return Path(_assembled(self).name)

    def module(self, name: str, package: str | None = None) -> ModuleType:
        """Import a module of the package, or of another package next to it."""
        parent = str(self.parent())
        if parent not in sys.path:
            sys.path.insert(0, parent)
        return importlib.import_module(f"{package or self.name}.{name}")


@functools.cache
def _assembled(package: RolePackage) -> tempfile.TemporaryDirectory[str]:
    directory = tempfile.TemporaryDirectory(prefix=f"{package.name}-")
    package.assemble(Path(directory.name))
    return directory

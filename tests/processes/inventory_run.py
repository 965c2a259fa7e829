"""Running ansible-inventory as a user would, on fake hypervisors, and reading the inventory."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tests.processes.ansible_run import CORES
from tests.support.collection import install

PLUGIN = "qemu.guest_agent.libvirt_guests"

# Ansible's mark for text that it does not template.
_MARK = "__ansible_unsafe"


@dataclass(frozen=True)
class InventoryRun:
    """A finished run: its exit status, the inventory in plain types, and its messages in one line."""

    status: int
    output: str
    said: str

    @cached_property
    def marked(self) -> dict[str, Any]:
        """Return the inventory with Ansible's marks."""
        return dict(json.loads(self.output))

    @cached_property
    def hosts(self) -> dict[str, dict[str, Any]]:
        """Return the variables by host, including hosts without variables."""
        return {**{name: {} for name in self.group("all")}, **plain(self.marked["_meta"]["hostvars"])}

    @property
    def groups(self) -> set[str]:
        return set(self.marked) - {"_meta", "all"}

    def group(self, name: str) -> set[str]:
        """Return all hosts in it and in its children."""
        group = self.marked.get(name, {})
        return {*group.get("hosts", ()), *(host for child in group.get("children", ()) for host in self.group(child))}


def plain(value: Any) -> Any:
    """Return the value without Ansible's marks."""
    if isinstance(value, dict):
        return value[_MARK] if set(value) == {_MARK} else {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def configured(directory: Path, **options: Any) -> Path:
    """Write an inventory source with these options and return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    source = directory / "libvirt_guests.yml"
    source.write_text(yaml.safe_dump({"plugin": PLUGIN, **options}), encoding="utf-8")
    return source


def settings(stand_in: Path) -> dict[str, str]:
    """Return the environment of an Ansible that imports libvirt-python from here and fails if a source fails."""
    return {
        "ANSIBLE_COLLECTIONS_PATH": str(install()),
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "PYTHONPATH": str(stand_in),
        "COLUMNS": "10000",
    }


def run_inventory(
    source: Path,
    stand_in: Path,
    *arguments: str,
    core: str = "2.19",
    environment: Mapping[str, str] | None = None,
) -> InventoryRun:
    """Run ansible-inventory with these ``arguments``, or with ``--list``."""
    done = subprocess.run(
        [CORES[core] / "ansible-inventory", "-i", source, *(arguments or ("--list",))],
        env={**os.environ, **settings(stand_in), **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    return InventoryRun(done.returncode, done.stdout, " ".join(done.stderr.split()))

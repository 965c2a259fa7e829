"""The default options of the inventory plugin, from its documentation."""

from __future__ import annotations

from typing import Any

import yaml
from ansible_collections.qemu.guest_agent.plugins.inventory.libvirt_guests import DOCUMENTATION

OPTIONS: dict[str, dict[str, Any]] = yaml.safe_load(DOCUMENTATION)["options"]

DEFAULTS: dict[str, Any] = {name: option["default"] for name, option in OPTIONS.items() if "default" in option}

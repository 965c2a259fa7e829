# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the inventory plugin where the user gives none, as its documentation has them."""

from __future__ import annotations

from typing import Any

import yaml
from ansible_collections.qemu.guest_agent.plugins.inventory.libvirt_guests import DOCUMENTATION

OPTIONS: dict[str, dict[str, Any]] = yaml.safe_load(DOCUMENTATION)["options"]

DEFAULTS: dict[str, Any] = {name: option["default"] for name, option in OPTIONS.items() if "default" in option}

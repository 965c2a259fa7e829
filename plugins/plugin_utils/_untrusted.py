# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Marking what came from a guest, so that Ansible never takes it for a template."""

from __future__ import annotations

from typing import Any

from ansible.utils.unsafe_proxy import wrap_var


def untrusted(value: Any) -> Any:
    """The same data, all the way down, as text that is not templated.

    Up to ansible-core 2.18, every text in an inventory is a template unless it is marked as unsafe. Since 2.19 none is
    that is not marked as trusted, and this takes such marks away.
    """
    return wrap_var(value)

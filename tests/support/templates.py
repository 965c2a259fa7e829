# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Texts that Ansible takes for templates, on every version of it."""

from __future__ import annotations

from typing import Any


def trusted(text: str) -> Any:
    """A template, as a playbook has it."""
    try:
        from ansible.template import trust_as_template
    except ImportError:  # before ansible-core 2.19, every text is one
        return text
    return trust_as_template(text)

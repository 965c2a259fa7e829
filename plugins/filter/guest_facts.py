# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that make a file of guests' facts, and their texts fit to be shown."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.qemu.guest_agent.plugins.module_utils import _untrusted as untrusted
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._filter_errors import made
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.facts_file import document


def guest_facts_json(guests: object, hypervisor: object) -> str:
    if not isinstance(hypervisor, str):
        raise AnsibleFilterError(f"guest_facts_json: hypervisor is a text, not of type {type(hypervisor).__name__}")
    return made("guest_facts_json", document, hypervisor, guests)


def guest_text(text: object, length: object = untrusted.EXCERPT) -> str:
    if not isinstance(text, str):
        raise AnsibleFilterError(f"guest_text: expects a text, not one of type {type(text).__name__}")
    if not isinstance(length, int) or length < 0:
        raise AnsibleFilterError(f"guest_text: length expects a number of characters, not {length!r}")
    # Ansible has types of its own below str; the unbound method gives a plain one, whatever they override.
    return untrusted.visible(str.__str__(text), length)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "guest_facts_json": guest_facts_json,
            "guest_text": guest_text,
        }

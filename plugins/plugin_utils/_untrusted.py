# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps data from guests from being templated by Ansible, in variables (untrusted) and in files (inert)."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.utils.unsafe_proxy import wrap_var

from ..module_utils import _untrusted

# The prefix of keys for vaulted, trusted and typed values in Ansible's own JSON (ansible.parsing.ajson, ansible-core
# 2.18; module_utils/_internal/_json, ansible-core 2.19).
_ANSIBLE_JSON_PREFIX = "__ansible"


def untrusted(value: Any) -> Any:
    """Return the same data with all nested text marked so that it is not templated.

    Up to ansible-core 2.18, every text in an inventory is a template unless it is marked as unsafe. Since 2.19, only
    text that is marked as trusted is a template, and this removes such marks.
    """
    return wrap_var(value)


def inert(value: Any) -> Any:
    """Return the same data in plain types, with escapes such as ``\\x7b`` for what Ansible would template.

    This is for files of variables: in every version of Ansible, a text in them that looks like a template is one.

    :raises TypeError: the data has a type that JSON does not have
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        # Ansible has its own subclasses of str. The unbound method returns a plain str, whatever they override.
        return _untrusted.inert(str.__str__(value))
    if isinstance(value, Mapping):
        return {_key(name): inert(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inert(item) for item in value]
    raise TypeError(f"JSON has no type for {type(value).__name__}")


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"JSON has no key of type {type(name).__name__}")
    text: str = inert(name)
    return "\\x5f" + text[1:] if text.startswith(_ANSIBLE_JSON_PREFIX) else text

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data from guests that stays data, wherever Ansible takes it from: a variable (untrusted), or a file (inert)."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.utils.unsafe_proxy import wrap_var

from ..module_utils import _untrusted

# The keys that Ansible's own JSON has for vaulted, trusted and typed values (ansible.parsing.ajson, ansible-core 2.18;
# module_utils/_internal/_json, ansible-core 2.19).
_OF_ANSIBLES_JSON = "__ansible"


def untrusted(value: Any) -> Any:
    """Return the same data, all the way down, as text that is not templated.

    Up to ansible-core 2.18, every text in an inventory is a template unless it is marked as unsafe. Since 2.19 none is
    that is not marked as trusted, and this takes such marks away.
    """
    return wrap_var(value)


def inert(value: Any) -> Any:
    """Return the same data, of plain types, with escapes such as ``\\x7b`` in place of what Ansible would carry out.

    For files of variables: on every version of Ansible, a text in them that looks like a template is one, whoever wrote
    it.

    :raises TypeError: there is something else in it than JSON has
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        # Ansible has types of its own below str; the unbound method gives a plain one, whatever they override.
        return _untrusted.inert(str.__str__(value))
    if isinstance(value, Mapping):
        return {_key(name): inert(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inert(item) for item in value]
    raise TypeError(f"there is no JSON for what is of type {type(value).__name__}")


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"there is no JSON for a key of type {type(name).__name__}")
    text: str = inert(name)
    return "\\x5f" + text[1:] if text.startswith(_OF_ANSIBLES_JSON) else text

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data that stays data, wherever Ansible reads it back.

What registered results hold is never carried out. What files of variables hold is, whoever wrote it: on every version
of Ansible, a text in them that looks like a template is one. So no text that goes into a file may look like one.
"""

from __future__ import annotations

from typing import Any, Mapping

from ..module_utils import _untrusted as untrusted

# The keys that Ansible's own JSON has for vaulted, trusted and typed values (ansible.parsing.ajson, ansible-core 2.18;
# module_utils/_internal/_json, ansible-core 2.19).
_OF_ANSIBLES_JSON = "__ansible"


def inert(value: Any) -> Any:
    """The same, of plain types, with escapes such as ``\\x7b`` in place of what Ansible would take for more than text.

    :raises TypeError: there is something else in it than JSON has
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return {_key(name): inert(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [inert(item) for item in value]
    raise TypeError(f"there is no JSON for what is of type {type(value).__name__}")


def _text(value: str) -> str:
    # Ansible has types of its own below str; the unbound method gives a plain one, whatever they override.
    return untrusted.inert(str.__str__(value))


def _key(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"there is no JSON for a key of type {type(name).__name__}")
    text = _text(name)
    return "\\x5f" + text[1:] if text.startswith(_OF_ANSIBLES_JSON) else text

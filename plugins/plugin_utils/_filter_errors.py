# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the filters share."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

from ansible.errors import AnsibleFilterError

Made = TypeVar("Made")


def made(name: str, make: Callable[..., Made], *arguments: Any, **options: Any) -> Made:
    """What the filter of that name makes.

    :raises AnsibleFilterError: of what it was given, it makes nothing
    """
    try:
        return make(*arguments, **options)
    except TypeError as error:
        raise AnsibleFilterError(f"{name}: {error}") from error

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters of an inventory: the first whose condition is true decides about a host."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible.module_utils.parsing.convert_bool import boolean

from ...module_utils._errors import InvalidOptionError
from ...module_utils._untrusted import visible
from .options import Filter

# What an expression is worth with these variables; it may raise whatever it likes.
Evaluate = Callable[[str, Mapping[str, Any]], Any]


def is_taken(filters: Iterable[Filter], variables: Mapping[str, Any], evaluate: Evaluate, is_strict: bool) -> bool:
    """Whether the host with these variables is taken; one that no filter is about is.

    A condition that fails, as it does of a guest that has told nothing, is not true.

    :raises InvalidOptionError: a condition fails, and ``is_strict``
    """
    for each in filters:
        try:
            is_true = boolean(
                each.condition if isinstance(each.condition, bool) else evaluate(each.condition, variables)
            )
        except Exception as error:  # pylint: disable=broad-exception-caught  # whatever an expression may raise
            if is_strict:
                raise InvalidOptionError(
                    f"the filter {each.condition!r} fails for {variables.get('inventory_hostname')}: "
                    f"{visible(str(error), 500)}",
                    "Correct it, test what may be missing with `is defined`, or leave out strict.",
                ) from error
            continue
        if is_true:
            return each.is_included
    return True

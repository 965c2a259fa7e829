# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests that were chosen need done: a fixture for all tests of a module does no more."""

from __future__ import annotations

from typing import Any

import pytest


def chosen(request: pytest.FixtureRequest, *names: str) -> list[tuple[Any, ...]]:
    """The values that parameters of these names have together in the module's tests, each once and in their order."""
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    parameters = [item.callspec.params for item in items if hasattr(item, "callspec")]
    return list(dict.fromkeys(tuple(each[name] for name in names) for each in parameters if each.keys() >= set(names)))

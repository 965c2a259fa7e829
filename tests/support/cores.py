# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that are run with every ansible-core that is supported."""

from __future__ import annotations

import pytest

from tests.support.ansible_run import CORES

_OLDEST, *_BETWEEN, _NEWEST = CORES

every_core = pytest.mark.parametrize(
    "core", [_OLDEST, *(pytest.param(core, marks=pytest.mark.thorough) for core in _BETWEEN), _NEWEST]
)


def chosen_cores(request: pytest.FixtureRequest) -> list[str]:
    """The ones that the chosen tests of a module ask for: a fixture for all of them need work with no others."""
    items = [item for item in request.session.items if getattr(item, "module", None) is request.module]
    asked = {item.callspec.params.get("core") for item in items if hasattr(item, "callspec")}
    return [core for core in CORES if core in asked]

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that are run with every ansible-core that is supported."""

from __future__ import annotations

import pytest

from tests.support.ansible_run import CORES

_OLDEST, *_BETWEEN, _NEWEST = CORES


def _every_core(*at_least: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        "core", [pytest.param(core, marks=() if core in at_least else pytest.mark.thorough) for core in CORES]
    )


every_core = _every_core(_NEWEST)
# Since 2.19, Ansible knows of each text whether it may be a template. Before, it knew which are not.
every_core_that_templates = _every_core(_OLDEST, _NEWEST)

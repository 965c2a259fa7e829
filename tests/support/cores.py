# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ansible-cores that are supported, and the tests that are run with every one of them."""

from __future__ import annotations

import pytest

from tests.processes.ansible_run import CORES
from tests.support.tiers import quick

OLDEST, *_others, NEWEST = CORES

every_core = pytest.mark.parametrize("core", quick(CORES, [NEWEST]))

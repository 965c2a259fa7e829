# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes that run the modules against hostile agents, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.records import Records
from tests.hostile.victims import Victims

# Most of them wait most of the time.
_VICTIMS = 6


@pytest.fixture(scope="session")
def victims() -> Iterator[Victims]:
    with Victims(_VICTIMS) as running:
        yield running


@pytest.fixture(scope="session")
def records() -> Iterator[Records]:
    kept = Records()
    yield kept
    kept.write()

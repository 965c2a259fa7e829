# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The processes that run the modules against hostile agents, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.checks import Records
from tests.hostile.workers import Workers

# Most of them wait most of the time.
_WORKERS = 6


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers(_WORKERS) as running:
        yield running


@pytest.fixture(scope="session")
def records() -> Iterator[Records]:
    kept = Records()
    yield kept
    kept.write()

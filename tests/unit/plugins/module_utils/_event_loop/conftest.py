# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Descriptors that tasks wait for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.many_tasks import Pair


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made = [Pair() for _pair in range(4)]
    yield made
    for pair in made:
        pair.close()

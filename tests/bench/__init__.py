# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Figures of merit. The collection's own code is imported here, so it has to be importable."""

from __future__ import annotations

from tests.support.collection import make_importable

make_importable()

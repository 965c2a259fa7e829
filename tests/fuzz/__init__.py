# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fuzzing: bytes of anybody's making through all that reads bytes, for as long as is wanted.

``python -m tests.fuzz --seconds 600``. What is tried is in ``targets``, by what in ``engines``, beginning with what in
``corpus``.
"""

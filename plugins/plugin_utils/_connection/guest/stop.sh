# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # a variable from the input

# Kill a program that the agent started, if it is still the agent's child: process IDs are reused. Needs process.sh and
# family.sh.

processes | while read -r q parent _group; do
  [ "$q" = "$process" ] && [ "$parent" = "$PPID" ] && end_all "$process" && break
done

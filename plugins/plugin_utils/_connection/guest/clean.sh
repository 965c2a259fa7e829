# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # a variable from the input

# Remove all directories of the connection. Arguments: the places where they may be.

for p; do
  for d in "$p"/qga-*; do
    [ -e "$d/$t" ] && enter "$d" && cd / && rm -rf "$d"
  done
done

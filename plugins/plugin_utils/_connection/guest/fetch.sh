# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Report a file's size, checksum and path, and its content if it is short. Needs path.sh. Variables: p the path; most
# the maximum size of a short file in bytes.

[ -d "$p" ] && exit 46
[ -e "$p" ] || exit 44
[ -f "$p" ] || exit 49
size "$p" || exit
sum "$p"
# Files without a size, such as those in /proc, are generated again at each reading.
[ -s "$p" ] || h=
printf '%s %s %s\0' "$s" "$h" "$p"
if [ "$s" -le "$most" ]; then cat "$p"; fi

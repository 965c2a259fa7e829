# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # words

# Tell what a file is, and give its content if it is short. Needs path.sh. Words: p the path; most the bytes of a short one.

[ -d "$p" ] && exit 46
[ -e "$p" ] || exit 44
[ -f "$p" ] || exit 49
size "$p" || exit
sum "$p"
# What has no size, such as the files in /proc, is made anew at each reading.
[ -s "$p" ] || h=
printf '%s %s %s\0' "$s" "$h" "$p"
if [ "$s" -le "$most" ]; then cat "$p"; fi

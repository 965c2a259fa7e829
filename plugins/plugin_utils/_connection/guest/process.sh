# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# One process: its start time, and whether a process ID still means the same process.

# Read a process's start time (proc(5), "starttime") and its state. The start time distinguishes it from a later process
# with the same ID; it is empty without /proc. A process may give itself any name, even one with a newline, so the other
# fields are what follows the last parenthesis of the last line.
stat_of() {
  s=
  { while IFS= read -r line; do s=$line; done <"/proc/$1/stat"; } 2>/dev/null
  s=${s##*) }
}
began() {
  stat_of "$1"
  # shellcheck disable=SC2086  # its fields
  set -- $s
  began=${20-} state=${1-}
}

# Return whether a process is still the one whose start time and ID are in a file's name.
is_ours() {
  was=${2%.*}
  was=${was##*.}
  kill -0 "$1" 2>/dev/null || return
  began "$1"
  [ "$state" != Z ] && { [ -z "$was" ] || [ "$was" = "$began" ]; }
}

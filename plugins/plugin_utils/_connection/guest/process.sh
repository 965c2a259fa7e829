# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# One process: when it began, and whether it is still the one that had its number then.

# When a process began (proc(5), "starttime"), so that another one of its number is not taken for it; nothing without
# /proc. Its state. A process may give itself any name, with a line's end in it, too: what follows the name is what
# follows the last parenthesis of the last line.
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

# Whether a process is still the one whose begin and number a file's name has.
is_ours() {
  was=${2%.*}
  was=${was##*.}
  kill -0 "$1" 2>/dev/null || return
  began "$1"
  [ "$state" != Z ] && { [ -z "$was" ] || [ "$was" = "$began" ]; }
}

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Feed a command that may ask for a password, and save its output; for run.sh, whose "start" this calls. Needs
# family.sh.
#
# A line in the file "answer" becomes the command's first input. Its own input follows once the file "go" is not empty.
# "rounds" is the maximum number of polls for that, 20 a second; after so many, the controller is gone, and the command
# is killed. Output is saved as it arrives, because a prompt does not end with a newline.

feed() {
  {
    r=0
    until [ -e "$n.over" ]; do
      f=$stored.answer
      if [ -s "$f" ] && IFS= read -r a <"$f"; then cat <"$f"; : >"$f"; fi
      [ -s "$stored.go" ] && exec cat
      r=$((r + 1))
      if [ $r -gt "$rounds" ]; then end_command; break; fi
      sleep 0.05 2>/dev/null || { sleep 1; r=$((r + 19)); }
    done
  } | {
    start
    s=$?
    : >"$n.over"
    exit $s
  }
}

keep() {
  {
    until [ -s "$stored.go" ] || [ -e "$n.over" ]; do
      a=$(dd bs=4096 count=1 2>&1 >&4) || : >"$n.lost"
      case $a in 0+0*) break ;; esac
    done
    head -c "$limit"
  } >"$n.$1" 4>&1 2>/dev/null || : >"$n.lost"
}

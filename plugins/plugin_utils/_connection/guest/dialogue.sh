# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # words

# Feeding a command that may ask for a password, and keeping what it writes; for run.sh, whose "start" it calls. Needs
# family.sh.
#
# A line in the file "answer" is given to the command as its first input, and its own input after that once there is
# something in the file "go". rounds: how often to look for that, 20 times a second; after so many the controller is
# gone, and the command is ended. Output is kept as it comes, since a question has no end of a line.

feed() {
  {
    r=0
    until [ -e "$n.over" ]; do
      if [ -s "$laid.answer" ] && IFS= read -r a <"$laid.answer"; then cat <"$laid.answer"; : >"$laid.answer"; fi
      [ -s "$laid.go" ] && exec cat
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
    until [ -s "$laid.go" ] || [ -e "$n.over" ]; do
      a=$(dd bs=4096 count=1 2>&1 >&4) || : >"$n.lost"
      case $a in 0+0*) break ;; esac
    done
    head -c "$limit"
  } >"$n.$1" 4>&1 2>/dev/null || : >"$n.lost"
}

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # set by process.sh

# A process and all processes that it started: its process group, and the descendants of these. Needs process.sh.

processes() {
  if [ -r /proc/self/stat ]; then
    for q in /proc/[0-9]*; do
      q=${q#/proc/}
      stat_of "$q"
      # shellcheck disable=SC2086  # its fields
      set -- $s
      [ "${3-}" ] && echo "$q $2 $3"
    done
  else
    ps -A -o pid= -o ppid= -o pgid=
  fi
}

family() {
  g=$1 more=y
  list=$(processes)
  while [ "$more" ]; do
    more=
    # shellcheck disable=SC2086  # three words for each process
    set -- $list
    while [ $# -gt 2 ]; do
      case $all in
        *" $1 "*) ;;
        *) case "$all$g-" in *" $2 "* | *" $3-") all="$all$1 " more=y ;; esac ;;
      esac
      shift 3
    done
  done
}

lives() {
  for q in $all; do
    kill -0 "$q" 2>/dev/null && began "$q" && [ "$state" != Z ] && return
  done
  return 1
}

end_all() {
  all=" $1 "
  for how in TERM KILL; do
    family "$1"
    { kill "-$how" "-$1"; for q in $all; do kill "-$how" "$q"; done; } 2>/dev/null
    k=0
    while lives; do
      k=$((k + 1))
      [ $k -le 20 ] || continue 2
      sleep 0.1 2>/dev/null || sleep 1
    done
    return
  done
}

# Kill the command number $n, found by its pid files.
end_command() {
  # shellcheck disable=SC2154  # a variable from the input
  for c in "$n".pid.*; do
    p=${c##*.}
    case $p in *[!0-9]*) continue ;; esac
    # If it has ended, the remaining processes in its group are still the command's.
    if kill -0 "$p" 2>/dev/null; then is_ours "$p" "$c" || continue; fi
    end_all "$p"
  done
}

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Kill a command and all processes that it started. A command that has not started never will: run.sh checks for the
# file N.begun, which is made here. Needs directory.sh, process.sh and family.sh.

known=$d
find_it "$@" || {
  [ -z "$known" ] && d='' && make "$@" || exit 0
  : >"$n.begun"
  # run.sh may have started before it could see that file.
  mine=$d
  for p; do
    for d in "$p"/qga-*; do
      [ "$d" = "$mine" ] || [ ! -e "$d/$t" ] || [ ! -e "$d/$n.begun" ] || { enter "$d" && break 2; }
    done
    d=
  done
  [ "$d" ] || exit 0
}
set -C
command : 2>/dev/null >"$n.begun" && exit
set +C
has_begun() { for f in "$n".pid.* "$n".done.*; do [ -e "$f" ] && return; done; return 1; }
i=0
until has_begun || [ $i -gt 20 ]; do i=$((i + 1)); sleep 0.1 2>/dev/null || sleep 1; done
end_command

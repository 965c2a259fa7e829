# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Report the state of a command; the table is in run.sh. Needs directory.sh and process.sh.

find_it "$@" || { echo "qga-report $t $n unknown"; exit; }
has=unknown
for f in "$n".runner.*; do
  [ -e "$f" ] || break
  has=gone
  is_ours "${f##*.}" "$f" && has=running
done
# This check comes last: the command may have ended since.
for f in "$n".done.*; do if [ -e "$f" ]; then report "$f"; exit; fi; done
echo "qga-report $t $n $has"

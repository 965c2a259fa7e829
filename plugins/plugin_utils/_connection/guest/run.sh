# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Run one command in a shell, once. Needs directory.sh and process.sh, and for a dialog family.sh and dialog.sh.
#
# Theory of operation. The names of files are the state of the command: a name fits on a full disk, too, and it either
# exists or not. The files are made in this order, where N is the command's number:
#
#   file               made by      meaning
#   N.begun            run, or end  nothing else starts the command (set -C: only one of the two makes it)
#   N.runner.B.P       run          this script, process P with the start time B, supervises it
#   N.pid.B.P          lead.sh      the command leads the session or group P, which "end" kills
#   N.out, N.err       keep         its output
#   N.lost             keep         a part of its output could not be saved
#   N.rc.S             run          it ended, with the exit status S
#   N.done.S.KEPT      run          its result is complete; KEPT is "kept" or "lost"
#
# "look" reports the first row that applies:
#
#   N.done.*                              done     its end, also if this was reported before
#   N.runner.B.P, and that process runs   running
#   N.runner.B.P, and it does not         gone     it ended together with the agent or the guest
#   none                                  unknown  it was not started, or the guest was rebooted or restored
#
# Streams:  [input or feed] | start  --stdout-->  keep out
#                                    --stderr-->  keep err
# Each "keep" reads until its stream is closed, so a command ends when all processes have closed its streams. After the
# limit "head" ends, and the command gets a SIGPIPE.
#
# Variables, besides those of directory.sh: limit, the bytes that are saved of each stream; stored, the prefix for the
# names of this command's stored data; stdin, not empty if the command's input is stored (its file is emptied at the
# end), otherwise the rest of the script's input is used; sh and cmd, the shell and the command; cmd is empty if it is
# stored; before, the command whose output is no longer needed; lead, the text of lead.sh; rounds, empty without a
# dialog.

# 1. Start, unless "end" came first.
new=
[ "$d" ] || new=y
place "$@"
set -C
command : >"$n.begun" || exit 97
set +C
# If "end" came first, it has made its own directory.
if [ "$new" ]; then
  for p; do
    for o in "$p"/qga-*; do
      [ "$o" = "$d" ] || [ ! -e "$o/$t" ] || [ ! -e "$o/$n.begun" ] || exit 97
    done
  done
fi
began $$
: >"$n.runner.$began.$$"

# 2. Free space, and use the stored data.
[ -z "$before" ] || { : >"$before.out"; : >"$before.err"; }
[ -z "$stdin" ] || exec <"$stored.input"
drop
if [ -z "$cmd" ]; then
  export QGA_COMMAND="$d/$stored.command"
  # shellcheck disable=SC2016  # the command's shell expands it
  cmd='qga=$QGA_COMMAND; unset QGA_COMMAND; . "$qga"'
fi

# 3. Run it, and save its output and its exit status.
leader=
command -v setsid >/dev/null && leader=setsid
start() {
  set -- "$leader" "$n" "$sh" -c "$cmd"
  # If the agent's environment has one of these names, it is exported and would reach the command.
  unset t d drop stored spare answer
  $leader /bin/sh -c "$lead" qga "$@"
}
if [ -z "$rounds" ]; then
  feed() { start; }
  keep() { head -c "$limit" >"$n.$1" 2>/dev/null || : >"$n.lost"; }
fi
{ { { feed; : >"$n.rc.$?"; } 2>&1 >&3 3>&- | keep err 3>&-; } 3>&1 | keep out; }

# 4. Report.
[ -z "$stdin" ] || : >"$stored.input"
kept=kept
[ -e "$n.lost" ] && kept=lost
for f in "$n".rc.*; do rc=${f##*.}; done
[ -e "$n.rc.$rc" ] || { echo "qga-report $t $n gone"; exit; }
f=$n.done.$rc.$kept
: >"$f"
report "$f"

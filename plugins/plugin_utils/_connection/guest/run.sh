# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # words

# Run one command in a shell, once. Needs directory.sh and process.sh, and for a dialogue family.sh and dialogue.sh.
#
# Theory of operation. The files of the command are its state, and their names are what is known of it: a name has room
# on a full disk, too, and it is there or it is not. They are made in this order, N being the command's number:
#
#   file               made by      from then on
#   N.begun            run, or end  nobody else begins the command (set -C: one of the two makes it)
#   N.runner.B.P       run          this script, process P that began at B, is looking after it
#   N.pid.B.P          lead.sh      the command leads the session or group P, which "end" kills
#   N.out, N.err       keep         what it wrote
#   N.lost             keep         not all that it wrote could be kept
#   N.rc.S             run          it ended, with the exit status S
#   N.done.S.KEPT      run          all of it is here; KEPT is "kept" or "lost"
#
# What "look" makes of them, the first that applies:
#
#   N.done.*                              done     report its end, at any time after it as well
#   N.runner.B.P, and P of B lives        running
#   N.runner.B.P, and it does not         gone     it ended together with the agent or the guest
#   none                                  unknown  it was not begun, or the guest is not the same any more
#
# Streams:  [input or feed] | start  --stdout-->  keep out
#                                    --stderr-->  keep err
# Each "keep" reads until its stream is closed, so a command ends when all have closed its streams. After the limit
# "head" ends, and the command gets a SIGPIPE.
#
# Words, besides those of directory.sh: limit, the bytes that are kept of each stream; laid, how the names of what was
# laid down for this command begin; stdin, not empty if the command's input was (the file is emptied afterwards),
# otherwise the input is the script's own; sh and cmd, the shell and the command; cmd is empty if it was laid down;
# before, the command whose output is not needed any more; lead, the text of lead.sh; rounds, empty without a dialogue.

# 1. Begin, unless "end" came first.
new=
[ "$d" ] || new=y
place "$@"
set -C
command : >"$n.begun" || exit 97
set +C
# It has made a directory of its own then.
if [ "$new" ]; then
  for p; do
    for o in "$p"/qga-*; do
      [ "$o" = "$d" ] || [ ! -e "$o/$t" ] || [ ! -e "$o/$n.begun" ] || exit 97
    done
  done
fi
began $$
: >"$n.runner.$began.$$"

# 2. Make room, and take what was laid down.
[ -z "$before" ] || { : >"$before.out"; : >"$before.err"; }
[ -z "$stdin" ] || exec <"$laid.input"
drop
if [ -z "$cmd" ]; then
  export QGA_COMMAND="$d/$laid.command"
  # shellcheck disable=SC2016  # the command's shell expands it
  cmd='qga=$QGA_COMMAND; unset QGA_COMMAND; . "$qga"'
fi

# 3. Run it, keep what it writes, and how it ended.
leader=
command -v setsid >/dev/null && leader=setsid
start() {
  set -- "$leader" "$n" "$sh" -c "$cmd"
  # None of these is the command's business, if the agent's environment has one of their names.
  unset t d drop laid spare answer
  $leader /bin/sh -c "$lead" qga "$@"
}
if [ -z "$rounds" ]; then
  feed() { start; }
  keep() { head -c "$limit" >"$n.$1" 2>/dev/null || : >"$n.lost"; }
fi
{ { { feed; : >"$n.rc.$?"; } 2>&1 >&3 3>&- | keep err 3>&-; } 3>&1 | keep out; }

# 4. Report.
[ -z "$stdin" ] || : >"$laid.input"
kept=kept
[ -e "$n.lost" ] && kept=lost
for f in "$n".rc.*; do rc=${f##*.}; done
[ -e "$n.rc.$rc" ] || { echo "qga-report $t $n gone"; exit; }
f=$n.done.$rc.$kept
: >"$f"
report "$f"

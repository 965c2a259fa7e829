# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell scripts that carry commands out in a guest. They need a POSIX shell, and ``head -c``.

What a command writes goes to files in a directory of its own, and how it ended is the name of one: a name has room on a
full disk, too. The agent tells of the end of a program only once, so that without the files a reply that is lost would
be a result that is lost. And replies have a limit, but a file can be had in pieces.

All scripts take the connection's directory in the guest, the number of the command, and a token that comes back in the
report: ``qga-report TOKEN COMMAND STATE ...``, the first line on their standard output. They are sparing of programs:
in a small guest, starting one takes longer than an exchange with its agent.

So RUN makes the directory as well, if there is none yet: it is given several then, behind all else, and takes the first
one that can be made. Which one it was is in the report, as its number from 0.
"""

from __future__ import annotations

REPORT = "qga-report"

# What RUN exits with if it could not begin, besides saying why.
NOT_BEGUN = 97

# Which of the two streams have something in them, so that empty files need not be opened.
_REPORT = r"""
report() {
  f=${1##*.done.}
  o=-
  e=-
  [ -s "$r.out" ] && o=out
  [ -s "$r.err" ] && e=err
  echo "qga-report $t $n done ${f%%.*} ${f#*.} $o $e $i"
}
"""

# The agent is a daemon, and may lack HOME and a whole PATH.
ENVIRONMENT = r"""
for b in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
  case :$PATH: in *:$b:*) ;; *) PATH=${PATH:+$PATH:}$b ;; esac
done
# Where NixOS, Guix and pkgsrc have programs.
for b in /nix/var/nix/profiles/default/bin /run/current-system/sw/bin \
  /run/current-system/profile/sbin /run/current-system/profile/bin /usr/pkg/sbin /usr/pkg/bin; do
  case :$PATH: in *:$b:*) ;; *) [ ! -d $b ] || PATH=$PATH:$b ;; esac
done
# In front: the sudo and su of the directories above have no setuid bits.
for b in /run/setuid-programs /run/privileged/bin /run/wrappers/bin; do
  case :$PATH: in :$b:*) ;; *) [ ! -d $b ] || PATH=$b:$PATH ;; esac
done
if [ -z "$HOME" ]; then
  if [ -O /root ] 2>/dev/null; then u=root HOME=/root; else u=$(id -un); eval "HOME=~$u"; fi
  USER=$u LOGNAME=$u
  export USER LOGNAME
fi
export HOME PATH
cd "$HOME" 2>/dev/null || cd /
"""

# DIRECTORY COMMAND TOKEN LIMIT INPUT ASKS BEFORE SHELL SCRIPT [DIRECTORY...]: run a command in a shell.
#
# LIMIT: the bytes that are kept of each stream; a command that writes more gets a SIGPIPE. INPUT: the file in the
# directory that is the command's input, which is emptied behind it; if there is no such name, the input is the script's
# own. ASKS: not empty, if the command may ask for a password. Then a line in the file "answer" is given to it as its
# first input, and its own input behind that once there is a file "go". BEFORE: the command whose output is not needed
# any more.
#
# The command leads a session of its own, so that all of it can be ended at once, and the agent's own process group is
# out of its reach.
RUN = (
    r"""
d=$1 n=$2 t=$3 limit=$4 in=$5 asks=$6 before=$7 sh=$8 cmd=$9 i=0
shift 9
for d; do
  mkdir -m 700 "$d" && break
  d= i=$((i + 1))
done
[ "$d" ] || exit 97
r=$d/$n
# The shell that runs the command leaves its process's number.
[ $# -eq 0 ] || cmd=": >$r.pid.\$\$; $cmd"
set -C
command : >"$r.begun" || exit 97
set +C
: >"$r.runner.$$"
[ -z "$before" ] || { : >"$d/$before.out"; : >"$d/$before.err"; }
[ -z "$in" ] || exec <"$d/$in"
"""
    + ENVIRONMENT
    + _REPORT
    + r"""
leader=
command -v setsid >/dev/null && leader=setsid
feed() { $leader "$sh" -c "$cmd"; }
keep() { head -c "$limit" >"$r.$1" 2>/dev/null || : >"$r.lost"; }
if [ "$asks" ]; then
  feed() {
    {
      until [ -e "$r.over" ]; do
        if [ -s "$r.answer" ] && IFS= read -r a <"$r.answer"; then : >"$r.answer"; printf '%s\n' "$a"; fi
        [ -e "$r.go" ] && exec cat
        sleep 0.05 2>/dev/null || sleep 1
      done
    } | {
      $leader "$sh" -c "$cmd"
      s=$?
      : >"$r.over"
      exit $s
    }
  }
  keep() {
    {
      until [ -e "$r.go" ] || [ -e "$r.over" ]; do dd bs=4096 count=1; done
      head -c "$limit"
    } >"$r.$1" 2>/dev/null || : >"$r.lost"
  }
fi
{ { { feed; : >"$r.rc.$?"; } 2>&1 >&3 3>&- | keep err 3>&-; } 3>&1 | keep out; }
[ -z "$in" ] || : >"$d/$in"
kept=kept
[ -e "$r.lost" ] && kept=lost
for f in "$r".rc.*; do rc=${f##*.}; done
[ -e "$r.rc.$rc" ] || { echo "qga-report $t $n gone"; exit; }
f=$r.done.$rc.$kept
: >"$f"
report "$f"
"""
)

# DIRECTORY COMMAND TOKEN [DIRECTORY...]: what has become of a command.
LOOK = (
    r"""
d=$1 n=$2 t=$3 i=0
shift 3
for d; do
  [ -d "$d" ] && break
  i=$((i + 1))
done
r=$d/$n
"""
    + _REPORT
    + r"""
state=unknown
for f in "$r".runner.*; do
  [ -e "$f" ] || break
  state=gone
  p=${f##*.}
  # Behind a reboot the number may be that of any process.
  kill -s 0 "$p" 2>/dev/null && { [ ! -e "/proc/$p/cmdline" ] || grep -q "$t" "/proc/$p/cmdline"; } && state=running
done
# Only now: it may have ended in between.
for f in "$r".done.*; do if [ -e "$f" ]; then report "$f"; exit; fi; done
echo "qga-report $t $n $state"
"""
)

# DIRECTORY COMMAND TOKEN [DIRECTORY...]: end a command, and all that it has begun. One that was not begun yet will
# never be: where RUN would make its directory, there is one then.
END = r"""
d=$1 n=$2
shift 3
for d; do
  mkdir -m 700 "$d" 2>/dev/null || { [ -d "$d" ] && break; }
done
r=$d/$n
[ -d "$d" ] || exit
set -C
command : 2>/dev/null >"$r.begun" && exit
set +C
has_begun() { for f in "$r".pid.* "$r".done.*; do [ -e "$f" ] && return; done; return 1; }
i=0
until has_begun || [ $i -gt 20 ]; do i=$((i + 1)); sleep 0.1 2>/dev/null || sleep 1; done
signal() { kill -s "$1" -- "-$p" 2>/dev/null || kill -s "$1" "$p" 2>/dev/null; }
for f in "$r".pid.*; do
  p=${f##*.}
  case $p in *[!0-9]*) continue ;; esac
  signal TERM
  i=0
  while signal 0; do
    i=$((i + 1))
    if [ $i -gt 20 ]; then signal KILL; break; fi
    sleep 0.1 2>/dev/null || sleep 1
  done
done
"""

# What goes before the text of a command, if its directory is known: as RUN has it.
MARK = ": >{}.pid.$$; "

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell scripts that carry commands out in a guest. They need a POSIX shell, and ``head -c``.

What a command writes goes to files in a directory of its own, and how it ended is the name of one: a name has room on a
full disk, too. The agent reports the end of a program only once, so that without the files a reply that is lost would
be a result that is lost. And replies have a limit, but a file can be had in pieces.

Everybody in a guest can read the argument list of every process there (and the stock agent copies those of its programs
to syslog: ``guest_exec_get_args`` in qga/commands.c, QEMU 10.0.13). So a script is given its words as the first line of
its input, by :func:`line_of`, and its argument list is the same in every guest. That line, unlike JSON, carries any
bytes. What the scripts start knows the directory as its working directory, and not by its name.

Where the names of others are as good as ours, a name proves nothing. The directory is made by ``mktemp``, under a name
that nobody knows before. It is found again by a file in it whose name is the connection's secret, and only if it is a
directory of the agent's user, no link, that nobody else may look into. What is laid down for a command goes to files
that a script has made there before, under names that are secrets as well.

Scripts are given the connection's directory in the guest, the number of the command, and a token, which is the secret
and comes back in the report: ``qga-report TOKEN COMMAND STATE ...``, the first line on their standard output. They are
sparing of programs: in a small guest, starting one takes longer than an exchange with its agent.

So RUN makes the directory as well, if there is none yet: it has a list of places then, and takes the first one that it
can be made in. Which one it was is in the report, as its number from 0, with the directory's name.
"""

from __future__ import annotations

from typing import Iterable, Mapping

from ...module_utils._errors import InvalidOptionError

REPORT = "qga-report"

# What RUN and PREPARE exit with if they could not begin, besides saying why.
NOT_BEGUN = 97


def line_of(values: Mapping[str, str], listed: Iterable[str] = ()) -> bytes:
    """Return the line that gives a script its variables, and its list of places.

    :raises InvalidOptionError: one of them has a NUL in it, which no shell can carry
    """
    assignments = [f"{name}={quoted(value)}" for name, value in values.items()]
    line = " ".join([*assignments, "&& set --" if assignments else "set --", *map(quoted, listed)]) + "\n"
    if "\0" in line:
        raise InvalidOptionError("a command or a path in a guest cannot have a NUL character in it", "Remove it.")
    return line.encode("utf-8", "surrogateescape")


def quoted(value: str) -> str:
    """Return the value as one word of :func:`line_of`."""
    return "'" + value.replace("'", "'\"'\"'").replace("\n", "'\"$nl\"'") + "'"


# Byte for byte: all that stands after the line is the input of what the script runs.
WORDS = r"""
nl='
'
IFS= read -r w && eval "$w" || exit 98
w=
"""

# The agent is a daemon, and may lack HOME and a whole PATH. Its umask is that of its unit, or none at all; files are to
# have the modes that a login gives them.
ENVIRONMENT = r"""
umask 022
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
# What starts daemons may give them / for HOME: FreeBSD's rc and service(8), and the kernel of Linux its init.
case $HOME in
  '' | /)
    if [ -O /root ] 2>/dev/null; then u=root HOME=/root; else u=$(id -un); eval "HOME=~$u"; fi
    case $HOME in /*) ;; *) HOME=/ ;; esac
    USER=$u LOGNAME=$u
    export USER LOGNAME
    ;;
esac
export HOME PATH
cd "$HOME" 2>/dev/null || cd /
"""

# Enter a directory that was made before, if it is ours. Where the token is, nobody else can have made it. Below a
# directory with the setgid bit it has that, too, and lets nobody in by it.
ENTER = r"""
enter() {
  [ ! -L "$1" ] && cd "$1" 2>/dev/null && [ -O . ] && {
    [ -e "$t" ] || case $(ls -ld . 2>/dev/null) in drwx--[-S]---*) ;; *) false ;; esac
  }
}
"""

# Make the directory, in the first of the places where it can be made.
_MAKE = r"""
make() {
  for p; do
    if command -v mktemp >/dev/null; then d=$(mktemp -d "$p/qga-XXXXXXXXXX")
    else d=$p/qga-$spare && mkdir -m 700 "$d"
    fi && cd "$d" && {
      command : >"$t" && return
      cd / && rmdir "$d"
    }
    i=$((i + 1))
  done
  d=
  return 1
}
place() {
  if [ "$d" ]; then enter "$d" || { echo "$d is gone, or not the connection's any more" >&2; exit 97; }
  else make "$@" || exit 97
  fi
}
drop() { for f in command input answer go; do : >"$drop.$f"; done; }
"""

# Find the directory in which the command was begun.
_FIND = r"""
find_it() {
  if [ "$d" ]; then enter "$d"; return; fi
  for p; do
    for d in "$p"/qga-*; do [ -e "$d/$t" ] && [ -e "$d/$n.begun" ] && enter "$d" && return; done
    i=$((i + 1))
  done
  return 1
}
"""

# When a process began (proc(5), "starttime"), so that another one of its number is not taken for it; nothing without
# /proc. Its state. A process may give itself any name, with a line's end in it, too: what follows the name is what
# follows the last parenthesis of the last line.
_BEGAN = r"""
stat_of() {
  s=
  { while IFS= read -r line; do s=$line; done <"/proc/$1/stat"; } 2>/dev/null
  s=${s##*) }
}
began() {
  stat_of "$1"
  set -- $s
  began=${20-} state=${1-}
}
"""

# Whether a process is still the one whose begin and number a file's name has.
_IS_OURS = r"""
is_ours() {
  was=${2%.*}
  was=${was##*.}
  kill -0 "$1" 2>/dev/null || return
  began "$1"
  [ "$state" != Z ] && { [ -z "$was" ] || [ "$was" = "$began" ]; }
}
"""

# End a process with all that it has begun: what is in its group, or below one of these.
_END_ALL = r"""
processes() {
  if [ -r /proc/self/stat ]; then
    for q in /proc/[0-9]*; do
      q=${q#/proc/}
      stat_of "$q"
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
end_command() {
  for c in "$n".pid.*; do
    p=${c##*.}
    case $p in *[!0-9]*) continue ;; esac
    # Where it has ended, what it left behind in its group cannot be anybody else's.
    if kill -0 "$p" 2>/dev/null; then is_ours "$p" "$c" || continue; fi
    end_all "$p"
  done
}
"""

# Which of the two streams have something in them, so that empty files need not be opened.
_REPORT = r"""
report() {
  f=${1##*.done.}
  o=-
  e=-
  [ -s "$n.out" ] && o=out
  [ -s "$n.err" ] && e=err
  echo "qga-report $t $n done ${f%%.*} ${f#*.} $o $e $i ${d##*/}"
}
"""

_HEAD = WORDS + ENVIRONMENT + ENTER + "umask 077\ni=0\n"

# Make the directory if there is none, and the files that something is laid down in for the next command.
PREPARE = (
    _HEAD
    + _MAKE
    + r"""
place "$@"
drop
echo "qga-report $t $n ready $i ${d##*/}"
"""
)

# What starts the command. It leads a session of its own, so that all of it can be ended at once, and the agent's own
# process group is out of its reach; where that cannot be had, a process group of its own.
_LEAD = (
    _BEGAN
    + r"""
home() { umask 022; cd "$HOME" 2>/dev/null || cd /; unset OLDPWD; }
mark() { began "$1"; : >"$n.pid.$began.$1"; }
l=$1 n=$2
shift 2
if [ "$l" ]; then mark $$; home; exec "$@"; fi
set -m 2>/dev/null
{ (home; exec "$@") <&3 3<&- & } 3<&0
p=$!
mark "$p"
exec </dev/null >/dev/null 2>&1
wait "$p"
"""
)

# Run a command in a shell.
#
# limit: the bytes that are kept of each stream; a command that writes more gets a SIGPIPE. laid: the beginning of the
# names of what was laid down for this command. stdin: not empty, if the command's input was; the file is emptied
# afterwards. Otherwise the input is the script's own. cmd: the command; if empty, it was laid down. before: the command
# whose output is not needed any more. drop: as laid, for the next command.
_RUN_BEGIN = (
    r"""
new=
[ "$d" ] || new=y
place "$@"
set -C
command : >"$n.begun" || exit 97
set +C
# END may have come first, and it has made a directory of its own then.
if [ "$new" ]; then
  for p; do
    for o in "$p"/qga-*; do
      [ "$o" = "$d" ] || [ ! -e "$o/$t" ] || [ ! -e "$o/$n.begun" ] || exit 97
    done
  done
fi
began $$
: >"$n.runner.$began.$$"
[ -z "$before" ] || { : >"$before.out"; : >"$before.err"; }
[ -z "$stdin" ] || exec <"$laid.input"
drop
if [ -z "$cmd" ]; then
  export QGA_COMMAND="$d/$laid.command"
  cmd='qga=$QGA_COMMAND; unset QGA_COMMAND; . "$qga"'
fi
leader=
command -v setsid >/dev/null && leader=setsid
lead='"""
    + _LEAD
    + r"""'
start() {
  set -- "$leader" "$n" "$sh" -c "$cmd"
  # None of these is the command's business, if the agent's environment has one of their names.
  unset t d drop laid spare answer
  $leader /bin/sh -c "$lead" qga "$@"
}
"""
)
_RUN_PLAIN = r"""
feed() { start; }
keep() { head -c "$limit" >"$n.$1" 2>/dev/null || : >"$n.lost"; }
"""

# If the command may ask for a password: a line in the file "answer" is given to it as its first input, and its own
# input after that once there is something in the file "go". rounds: how often to look for that, 20 times a second;
# after so many the controller is gone, and the command is ended. Output is kept as it comes, since a question has no
# end of a line.
_RUN_ASKING = (
    _IS_OURS
    + _END_ALL
    + r"""
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
"""
)
_RUN_END = r"""
{ { { feed; : >"$n.rc.$?"; } 2>&1 >&3 3>&- | keep err 3>&-; } 3>&1 | keep out; }
[ -z "$stdin" ] || : >"$laid.input"
kept=kept
[ -e "$n.lost" ] && kept=lost
for f in "$n".rc.*; do rc=${f##*.}; done
[ -e "$n.rc.$rc" ] || { echo "qga-report $t $n gone"; exit; }
f=$n.done.$rc.$kept
: >"$f"
report "$f"
"""

RUN = _HEAD + _MAKE + _BEGAN + _REPORT + _RUN_BEGIN + _RUN_PLAIN + _RUN_END
RUN_ASKING = _HEAD + _MAKE + _BEGAN + _REPORT + _RUN_BEGIN + _RUN_ASKING + _RUN_END

# What has become of a command.
LOOK = (
    _HEAD
    + _FIND
    + _BEGAN
    + _IS_OURS
    + _REPORT
    + r"""
find_it "$@" || { echo "qga-report $t $n unknown"; exit; }
has=unknown
for f in "$n".runner.*; do
  [ -e "$f" ] || break
  has=gone
  is_ours "${f##*.}" "$f" && has=running
done
# Only now: it may have ended in between.
for f in "$n".done.*; do if [ -e "$f" ]; then report "$f"; exit; fi; done
echo "qga-report $t $n $has"
"""
)

# End a command, and all that it has begun. One that was not begun yet will never be: RUN looks for what is made here.
END = (
    _HEAD
    + _FIND
    + _MAKE
    + _BEGAN
    + _IS_OURS
    + _END_ALL
    + r"""
known=$d
find_it "$@" || {
  [ -z "$known" ] && d= && make "$@" || exit 0
  : >"$n.begun"
  # RUN may have begun before it could see that.
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
"""
)

# End a program that the agent has started, if it still is one of the agent's: their numbers are used again.
STOP = (
    WORDS
    + _BEGAN
    + _END_ALL
    + r"""
processes | while read -r q parent _group; do
  [ "$q" = "$process" ] && [ "$parent" = "$PPID" ] && end_all "$process" && break
done
"""
)

# What goes before a script that is asked for its output only.
ASKED = WORDS + ENVIRONMENT + ENTER

# A link in the directory to what has a path that JSON cannot carry.
LINK = r"""
enter "$d" && ln -s "$p" "$link"
"""

# Remove all directories of the connection.
CLEAN = (
    _HEAD
    + r"""
for p; do
  for d in "$p"/qga-*; do
    [ -e "$d/$t" ] && enter "$d" && cd / && rm -rf "$d"
  done
done
"""
)

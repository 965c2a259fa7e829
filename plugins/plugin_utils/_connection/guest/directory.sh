# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# The connection's directory in the guest: making it, finding it, and reporting the result in it.
# Variables: d its path, or empty; t the token; n the command's number; spare a name for it without mktemp; drop the
# prefix for the names of the next command's files. Arguments: the places where it may be.

umask 077
i=0

# Make the directory in the first possible place.
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
  if [ "$d" ]; then enter "$d" || { echo "$d is gone, or no longer the connection's directory" >&2; exit 97; }
  else make "$@" || exit 97
  fi
}

drop() { for f in command input answer go; do : >"$drop.$f"; done; }

# Find the directory in which the command was started.
find_it() {
  if [ "$d" ]; then enter "$d"; return; fi
  for p; do
    for d in "$p"/qga-*; do [ -e "$d/$t" ] && [ -e "$d/$n.begun" ] && enter "$d" && return; done
    i=$((i + 1))
  done
  return 1
}

# Report the end of a command by the name of its file "done". The report lists the streams that are not empty, so that
# the controller need not open empty files.
report() {
  f=${1##*.done.}
  o=-
  e=-
  [ -s "$n.out" ] && o=out
  [ -s "$n.err" ] && e=err
  echo "qga-report $t $n done ${f%%.*} ${f#*.} $o $e $i ${d##*/}"
}

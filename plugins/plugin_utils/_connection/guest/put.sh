# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # words

# Put a file in its place. Needs path.sh.
#
# Theory of operation. The file is made in a directory of ours beside its place, checked there, and taken over. Short
# files are put by one script; the others are written by the agent in between:
#
#   step      does                                      leaves
#   whole     target, make_beside, take_over            nothing
#   begin     target, make_beside; reports the paths    the directory, with the file in it
#   end       enter, unpack, take_over                    nothing
#   give_up   target if "begin" was not heard; enter      nothing
#
# Nobody can exchange the file in that directory for another one while it is written, which would be given its content,
# mode and owner; and nobody can read it, whatever a default ACL grants. Its own name is not to be guessed from the
# directory's: the agent opens it by both. All else that is done to it is done in that directory, whatever the
# directory's name leads to by then. A new file has the mode, the group and the ACL that any new file gets there: the
# directory inherits what decides on that, but for the setgid bit, which busybox's mkdir clears.
#
# Words: step; p the path; g the directory, empty until it is known; beside the end of its name; x the file's name;
# size and hash of the content; packs, whether it may come packed; packed, whether it did.
# Exit statuses are in transfer.py.

# What a path leads to, link by link: readlink -f is not everywhere, and says nothing where a directory is missing.
target() {
  [ -d "$p" ] && exit 46
  q=$p k=0
  while [ -L "$q" ]; do
    k=$((k + 1))
    [ $k -le 40 ] || exit 48
    l=$(readlink "$q" && echo .) || exit
    l=${l%??}
    case $l in /*) q=$l ;; *) q=${q%/*}/$l ;; esac
    [ -d "$q" ] && exit 46
  done
  g=${q%/*}
  [ -d "$g/" ] || exit 47
  if [ -p "$q" ] || [ -S "$q" ]; then exit 49; fi
  g=$g/.qga-$beside
}

leave() {
  for f in "$x" "$x.z"; do [ ! -e "$f" ] || rm -f "$f"; done
  cd / && rmdir "$g"
}

# Where the path is a link, the kernel is asked first: it may refuse to follow another user's (fs.protected_symlinks).
make_beside() {
  if [ -L "$p" ] && [ -e "$q" ]; then (: >>"$p") || exit; fi
  mkdir -m 700 "$g" || exit
  enter "$g" || {
    echo "the directory $g is not private" >&2
    cd / && rmdir "$g"
    exit 1
  }
  [ -g . ] || [ ! -g .. ] || chmod g+s .
  set -C
  command : >"$x" || { leave; exit 1; }
  set +C
}

# Whether the new file could be made like the old one, which it replaces then; and it is.
alike() {
  set -f
  # shellcheck disable=SC2012  # ls shows the mode of one directory
  # shellcheck disable=SC3067  # every sh in a guest has -O
  [ -f "$p" ] && [ -O .. ] && case $(ls -ld ..) in d????-??-*) ;; *) false ;; esac || return
  # shellcheck disable=SC2012,SC2046  # the mode, the links and the owners of one file; its name comes last
  set -- $(ls -ldn "$p")
  [ "${2-}" = 1 ] || return
  case $1 in *[+@]) return 1 ;; *.) chcon --reference="$p" "$x" || return ;; esac
  had="$1 $3 $4"
  # cp does not fail if the agent's user may not give a file away.
  # shellcheck disable=SC2012,SC2046  # as above
  cp --attributes-only --preserve=mode,ownership,xattr "$p" "$x" && set -- $(ls -ldn "$x") && [ "$1 $3 $4" = "$had" ]
} 2>/dev/null

write() {
  { cat "$x" || { echo "only a part of the new content was written to the file" >&2; false; }; } >"$p" || e=1
}

# A new file is moved to its place. One that is there keeps all that it has, as with scp: its mode, owner, ACL, label,
# extended attributes and other names. It is replaced only if another file can be made like it, which takes GNU's cp,
# and if nobody else can exchange it meanwhile, whose attributes would be taken from another file then. Otherwise it is
# written to. So is what a link leads to, since the kernel has to follow the link, and what is not a regular file.
take_over() {
  sum "$x"
  [ "$h" ] || { size "$x"; [ "$s" != "$size" ] || h=$hash; }
  if [ "$h" != "$hash" ]; then leave; exit 45; fi
  e=0
  if [ -L "$p" ]; then write
  elif [ ! -e "$p" ]; then mv -f "$x" "$p" || e=1
  elif alike && mv -f "$x" "$p" 2>/dev/null; then :
  else write
  fi
  leave
  exit $e
}

case $step in
  whole)
    target
    make_beside
    cat >"$x" || { leave; exit 1; }
    take_over
    ;;
  begin)
    target
    make_beside
    printf '%s\0%s\0' "$g" "$q"
    if [ "$packs" ] && command -v gzip >/dev/null && (set -C; : >"$x.z"); then printf gzip; fi
    ;;
  end)
    enter "$g" && [ -f "$x" ] || exit
    if [ "$packed" ]; then gzip -dc <"$x.z" >"$x" || { leave; exit 1; }; fi
    take_over
    ;;
  give_up)
    [ "$g" ] || target
    enter "$g" && leave
    ;;
esac

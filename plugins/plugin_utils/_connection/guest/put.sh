# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Put a file in its place. Needs path.sh.
#
# Theory of operation. The file is created in a private directory next to its place, checked there, and taken over. One
# script puts a short file; for others, the agent writes the content between two scripts:
#
#   step      does                                      leaves
#   whole     target, make_private, take_over           nothing
#   begin     target, make_private; reports the paths   the directory, with the file in it
#   end       enter, unpack, take_over                  nothing
#   give_up   target if the reply to "begin" was lost;  nothing
#             enter
#
# No other user can replace the file in that directory while it is written, to get its content, mode and owner; and no
# other user can read it, whatever a default ACL grants. The agent opens the file by its path, so its name cannot be
# guessed from the directory's name. All other work happens inside that directory, whatever its name refers to by then.
# A new file gets the mode, the group and the ACL of any new file there: the directory inherits the relevant attributes,
# except for the setgid bit, which busybox's mkdir clears.
#
# Variables: step; p the path; g the directory, empty until it is known; suffix the end of its name; x the file's name;
# size and hash of the content; packs, whether the content may be compressed; packed, whether it is.
# Exit statuses are in transfer.py.

# Follow a path link by link: not every system has readlink -f, and it prints nothing if a directory is missing.
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
  g=$g/.qga-$suffix
}

leave() {
  for f in "$x" "$x.z"; do [ ! -e "$f" ] || rm -f "$f"; done
  cd / && rmdir "$g"
}

# If the path is a link, open it first: the kernel may refuse to follow another user's link (fs.protected_symlinks).
make_private() {
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

# Give the new file the attributes of the old one, and return whether this worked, so that it can replace the old one.
alike() {
  set -f
  # shellcheck disable=SC2012  # ls shows the mode of one directory
  # shellcheck disable=SC3067  # every sh in a guest has -O
  [ -f "$p" ] && [ -O .. ] && case $(ls -ld ..) in d????-??-*) ;; *) false ;; esac || return
  # shellcheck disable=SC2012,SC2046  # the mode, the link count and the owners of one file; its name comes last
  set -- $(ls -ldn "$p")
  [ "${2-}" = 1 ] || return
  case $1 in *[+@]) return 1 ;; *.) chcon --reference="$p" "$x" || return ;; esac
  had="$1 $3 $4"
  # cp does not fail if the agent's user may not change the owner, so compare.
  # shellcheck disable=SC2012,SC2046  # as above
  cp --attributes-only --preserve=mode,ownership,xattr "$p" "$x" && set -- $(ls -ldn "$x") && [ "$1 $3 $4" = "$had" ]
} 2>/dev/null

write() {
  { cat "$x" || { echo "only a part of the new content was written to the file" >&2; false; }; } >"$p" || e=1
}

# A new file is moved to its place. An existing file keeps its mode, owner, ACL, label, extended attributes and other
# hard links, as with scp. It is replaced only if another file can get the same attributes, which needs GNU cp, and if
# no other user can replace it meanwhile, because then the attributes would come from the wrong file. Otherwise the
# content is written into it. The same goes for the target of a link, because the kernel must follow the link, and for
# anything but a regular file.
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
    make_private
    cat >"$x" || { leave; exit 1; }
    take_over
    ;;
  begin)
    target
    make_private
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

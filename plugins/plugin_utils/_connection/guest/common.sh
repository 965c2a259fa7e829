# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# The beginning of every script: its words, its environment, and entering a directory that is ours.

# The first line of the input assigns the script's words. It is read byte for byte: all that follows it is the input of
# what the script runs.
# shellcheck disable=SC2034  # the line uses it
nl='
'
IFS= read -r w && eval "$w" || exit 98
w=

# The agent is a daemon, and may lack HOME and a whole PATH. Its umask is that of its unit, or none at all; files are to
# have the modes that a login gives them.
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
    # shellcheck disable=SC3067  # a shell without -O asks id
    if [ -O /root ] 2>/dev/null; then u=root HOME=/root; else u=$(id -un); eval "HOME=~$u"; fi
    case $HOME in /*) ;; *) HOME=/ ;; esac
    USER=$u LOGNAME=$u
    export USER LOGNAME
    ;;
esac
export HOME PATH
cd "$HOME" 2>/dev/null || cd /

# Enter a directory that was made before, if it is ours. Where the token is, nobody else can have made it. Below a
# directory with the setgid bit it has that, too, and lets nobody in by it.
# shellcheck disable=SC2012,SC2154,SC3067  # ls shows the mode of one directory; t is a word; every sh in a guest has -O
enter() {
  [ ! -L "$1" ] && cd "$1" 2>/dev/null && [ -O . ] && {
    [ -e "$t" ] || case $(ls -ld . 2>/dev/null) in drwx--[-S]---*) ;; *) false ;; esac
  }
}

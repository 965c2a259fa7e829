# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# The start of every script: its variables, its environment, and entering one of the connection's directories.

# The first line of the input assigns the script's variables. "read" takes no byte beyond it: the rest is the input of
# the program that the script runs.
# shellcheck disable=SC2034  # the line uses it
nl='
'
IFS= read -r w && eval "$w" || exit 98
w=

# The agent is a daemon, and may lack HOME and a complete PATH. Its umask depends on its unit, but files should get the
# same modes as in a login session.
umask 022
for b in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
  case :$PATH: in *:$b:*) ;; *) PATH=${PATH:+$PATH:}$b ;; esac
done
# Where NixOS, Guix and pkgsrc have programs.
for b in /nix/var/nix/profiles/default/bin /run/current-system/sw/bin \
  /run/current-system/profile/sbin /run/current-system/profile/bin /usr/pkg/sbin /usr/pkg/bin; do
  case :$PATH: in *:$b:*) ;; *) [ ! -d $b ] || PATH=$PATH:$b ;; esac
done
# These come first: the sudo and su of the directories above have no setuid bits.
for b in /run/setuid-programs /run/privileged/bin /run/wrappers/bin; do
  case :$PATH: in :$b:*) ;; *) [ ! -d $b ] || PATH=$b:$PATH ;; esac
done
# A daemon's HOME may be /: FreeBSD's rc and service(8) set it, and so does Linux for init.
case $HOME in
  '' | /)
    # shellcheck disable=SC3067  # without -O, the shell runs id
    if [ -O /root ] 2>/dev/null; then u=root HOME=/root; else u=$(id -un); eval "HOME=~$u"; fi
    case $HOME in /*) ;; *) HOME=/ ;; esac
    USER=$u LOGNAME=$u
    export USER LOGNAME
    ;;
esac
export HOME PATH
cd "$HOME" 2>/dev/null || cd /

# Enter an existing directory if it is the connection's. No other user can have made one that contains the token. In a
# directory with the setgid bit, it has that bit, too; this gives no access.
# shellcheck disable=SC2012,SC2154,SC3067  # ls shows one mode; t is from the input; every sh in a guest has -O
enter() {
  [ ! -L "$1" ] && cd "$1" 2>/dev/null && [ -O . ] && {
    [ -e "$t" ] || case $(ls -ld . 2>/dev/null) in drwx--[-S]---*) ;; *) false ;; esac
  }
}

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # set by process.sh

# Start the command: lead.sh LEADER NUMBER PROGRAM [ARGUMENT...]. Needs process.sh.
#
# The command leads its own session (LEADER is setsid), so that all its processes can be killed at once, without the
# agent's process group. Without setsid (LEADER is empty), it leads its own process group.

home() { umask 022; cd "$HOME" 2>/dev/null || cd / || exit; unset OLDPWD; }
mark() { began "$1"; : >"$n.pid.$began.$1"; }
l=$1 n=$2
shift 2
if [ "$l" ]; then mark $$; home; exec "$@"; fi
# shellcheck disable=SC3040  # optional: not every shell has it
set -m 2>/dev/null
{ (home; exec "$@") <&3 3<&- & } 3<&0
p=$!
mark "$p"
exec </dev/null >/dev/null 2>&1
wait "$p"

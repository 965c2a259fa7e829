# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh disable=SC2154  # variables from the input

# Make the directory if there is none, and the files for data of the next command. Needs directory.sh.

place "$@"
drop
echo "qga-report $t $n ready $i ${d##*/}"

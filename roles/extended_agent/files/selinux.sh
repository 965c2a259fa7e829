# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh
# shellcheck disable=SC2154

# Install or remove an SELinux policy module. The role runs this through "raw", after lines that assign wanted and check
# (each yes or no), name (of the module) and module (its text in CIL).
# Prints "changed" if it changed something, or would have in check mode.

PATH=$PATH:/usr/sbin:/sbin
# semodule(8): administrators' modules have priority 400. The policy's own modules have 100, and are not touched.
priority=400

is_installed() {
    semodule --list-modules=full 2>/dev/null | grep -Eq "^ *$priority +$name( |\$)"
}

# Runs in its own directory: semodule extracts a module to a file with the module's name, and names a module after its
# file.
install_module() {
    if is_installed && semodule -X "$priority" --cil -E "$name" >/dev/null 2>&1 &&
        printf '%s' "$module" | cmp -s - "$name.cil"; then
        return 0
    fi
    echo changed
    if test "$check" = no; then
        printf '%s' "$module" >"$name.cil" && semodule -X "$priority" -i "$name.cil"
    fi
}

if test "$wanted" = no; then
    if is_installed; then
        echo changed
        test "$check" = yes || semodule -X "$priority" -r "$name"
    fi
elif command -v semodule >/dev/null; then
    work=$(mktemp -d) || exit
    (cd "$work" && install_module)
    status=$?
    rm -rf "$work"
    exit "$status"
else
    echo 'semodule is not installed' >&2
    exit 1
fi

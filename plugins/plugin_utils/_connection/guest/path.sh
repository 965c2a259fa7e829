# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# The path, size and checksum of a file to put or to fetch.

# Without a program for SHA-256 in the guest, only the size can be compared.
sum() {
  h=$({ sha256sum <"$1" || shasum -a 256 <"$1" || openssl dgst -sha256 -r <"$1"; } 2>/dev/null)
  h=${h%% *}
}
size() { s=$(wc -c <"$1") && s=$((s)); }

case $p in /*) ;; *) p=$PWD/$p ;; esac

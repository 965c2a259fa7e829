# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# Describe this system, in lines of key=value: uid, init, families, version, name, selinux, python.
# The roles run it through "raw". It works with any POSIX shell.

# os-release(5) is parsed as data. Sourcing it would run its contents as root, and would end the shell if it is missing
# (EL 6). If a name is assigned twice, the last assignment counts, as in a shell.
read_os_release() {
    ID='' ID_LIKE='' VERSION_ID='' NAME=''
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            ID=*) ID=$(plain "${line#*=}") ;;
            ID_LIKE=*) ID_LIKE=$(plain "${line#*=}") ;;
            VERSION_ID=*) VERSION_ID=$(plain "${line#*=}") ;;
            NAME=*) NAME=$(plain "${line#*=}") ;;
        esac
    done
}

# Remove a value's quotes, and the backslashes that double-quoted and unquoted values need.
plain() {
    case $1 in
        \'*) printf '%s\n' "$1" | sed "s/^'//; s/'[[:space:]]*\$//" ;;
        \"*) printf '%s\n' "$1" | sed 's/^"//; s/"[[:space:]]*$//; s/\\\(["$`\\]\)/\1/g' ;;
        *) printf '%s\n' "$1" | sed 's/[[:space:]]*$//; s/\\\(.\)/\1/g' ;;
    esac
}

echo "uid=$(id -u)"
# The init that is running; others may be installed. OpenRC runs on top of various programs as process 1.
if test -d /run/systemd/system; then
    echo init=systemd
elif test -e /run/openrc/softlevel; then
    echo init=openrc
elif test "$(cat /proc/1/comm 2>/dev/null)" = init && /sbin/init --version 2>/dev/null | grep -q '^SysV init'; then
    echo init=sysvinit
fi
for file in /etc/os-release /usr/lib/os-release; do
    if test -f "$file" && test -r "$file"; then
        read_os_release <"$file"
        printf '%s\n' "families=$ID $ID_LIKE" "version=${VERSION_ID%%.*}" "name=$NAME"
        break
    fi
done
# This file exists if SELinux is enabled, enforcing or not.
if test -e /sys/fs/selinux/enforce; then
    if (PATH=$PATH:/usr/sbin:/sbin && command -v semodule >/dev/null); then echo selinux=managed; else echo selinux=enabled; fi
fi
# Debian's python3-minimal lacks json and ctypes. -I prevents imports from the working directory.
python3 -I -c 'import ctypes, json, sysconfig' >/dev/null 2>&1 && echo python=full
true

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=sh

# Describe this system, in lines of key=value: uid, init, families, version, name, selinux, python.
# The roles run it through "raw", for any POSIX shell.

# os-release(5) is read as data. A shell that sourced it would run what it says, as root, and would end where it is
# missing (EL 6). Of two assignments to one name the last one counts, as it would for a shell.
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

# A value without its quotes, and without the backslashes that double quotes and bare words need.
plain() {
    case $1 in
        \'*) printf '%s\n' "$1" | sed "s/^'//; s/'[[:space:]]*\$//" ;;
        \"*) printf '%s\n' "$1" | sed 's/^"//; s/"[[:space:]]*$//; s/\\\(["$`\\]\)/\1/g' ;;
        *) printf '%s\n' "$1" | sed 's/[[:space:]]*$//; s/\\\(.\)/\1/g' ;;
    esac
}

echo "uid=$(id -u)"
# The one that runs: others may be installed besides it. OpenRC runs on top of several programs that are process 1.
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
# The kernel has this file where SELinux is enabled, enforcing or not.
if test -e /sys/fs/selinux/enforce; then
    if (PATH=$PATH:/usr/sbin:/sbin && command -v semodule >/dev/null); then echo selinux=managed; else echo selinux=enabled; fi
fi
# Debian's python3-minimal lacks json and ctypes. With -I, no file of the working directory stands in for them.
python3 -I -c 'import ctypes, json, sysconfig' >/dev/null 2>&1 && echo python=full
true

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options, from the command line and from a file, under qemu-ga's names (qga/main.c, QEMU 10.0.13).

As there, the file comes first and the command line goes before it, but lists of commands add up.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any, Iterable, Mapping, NamedTuple, NoReturn, Sequence

from . import VERSION, trust
from .policy import OWN_COMMANDS

# Not QGA_CONF: both agents may get the same environment, and must not read the same file.
CONFIG_VARIABLE = "QGA_EXTENDED_CONF"
CONFIG_FILE = "/etc/qemu-ga-extended.conf"

_DEFAULT_PATHS: Mapping[str, str] = {
    "virtio-serial": "/dev/virtio-ports/org.qemu.guest_agent.0",
    "isa-serial": "/dev/ttyS0",
    "unix-listen": "",
    "vsock-listen": "",
}


# As QEMU's schemas name commands (valid_name in scripts/qapi/expr.py), but never a single letter: a text that was
# taken for a list becomes a list of letters.
_COMMAND = re.compile(r"(__[a-z0-9.-]+_)?(x-)?[a-z][a-z0-9_-]+", re.IGNORECASE | re.ASCII)


class OptionError(Exception):
    """One sentence on what is wrong with an option or the file."""


class Options(NamedTuple):
    """``stock_path`` is the private socket that the stock agent listens on, ``stock_memory`` the file that keeps what
    it said of its commands, ``user`` the user that the agent becomes at its start (empty: it stays what it is); the
    other names are qemu-ga's.
    """

    method: str = "virtio-serial"
    path: str = ""
    stock_path: str = "/run/qemu-ga-extended/stock.sock"
    stock_memory: str = ""
    user: str = ""
    logfile: str = ""
    pidfile: str = ""
    statedir: str = "/run"
    verbose: bool = False
    retry_path: bool = False
    block_rpcs: frozenset[str] = frozenset()
    allow_rpcs: frozenset[str] | None = None


def _flag(value: str) -> bool:
    # GLib's key files know these and no others.
    if value not in ("true", "false"):
        raise OptionError(f"expects true or false, not {value!r}")
    return value == "true"


def _commands(value: str) -> frozenset[str] | None:
    """Read one list; None: the text is empty, which is not a list. A text of separators is a list without names, and
    allows nothing (split_list and ga_command_is_allowed, qga/main.c, QEMU 10.0.13; its dumps have empty texts).
    """
    if not value:
        return None
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    # As qemu-ga, except for what is not a command of any version. To ignore it would allow what was to be blocked.
    wrong = sorted(name for name in names if not _COMMAND.fullmatch(name))
    if wrong:
        raise OptionError(f"expects names of commands, such as guest-exec, not {', '.join(map(repr, wrong))}")
    return names


def _method(value: str) -> str:
    if value not in _DEFAULT_PATHS:
        raise OptionError(f"expects one of {', '.join(_DEFAULT_PATHS)}, not {value!r}")
    return value


class _Option(NamedTuple):
    """How an option is read, from the file under its key and from the command line; its short form there, and what the
    help says of it.
    """

    read: Any
    short: str
    metavar: str
    help: str


_OPTIONS: Mapping[str, _Option] = {
    "method": _Option(_method, "-m", "METHOD", f"transport: {', '.join(_DEFAULT_PATHS)} (default: {Options().method})"),
    "path": _Option(str, "-p", "PATH", "device or socket of the transport; vsock-listen takes CID:PORT"),
    "stock-path": _Option(str, "", "PATH", f"socket of the stock agent (default: {Options().stock_path})"),
    "stock-memory": _Option(str, "", "PATH", "file to keep the stock agent's list of commands in (default: none)"),
    "user": _Option(str, "", "NAME", "become this user, with CAP_SYS_TIME alone (default: stay the same)"),
    "logfile": _Option(str, "-l", "PATH", "log file (default: standard error)"),
    "pidfile": _Option(str, "-f", "PATH", "file to write the process id to (default: none)"),
    "statedir": _Option(str, "-t", "DIR", f"the stock agent's state directory (default: {Options().statedir})"),
    "verbose": _Option(_flag, "-v", "", "log every command's name"),
    "retry-path": _Option(_flag, "-r", "", "try a device again that is not there, or goes"),
    "block-rpcs": _Option(_commands, "-b", "LIST", "commands to refuse; 'help' lists our own"),
    "allow-rpcs": _Option(_commands, "-a", "LIST", "commands to allow, and no others"),
}


def read_file(path: str) -> dict[str, Any]:
    """The file's values under their keys.

    :raises OptionError: it cannot be read, another user can write it, or it has an unknown option
    """
    try:
        lines = trust.read(path).splitlines()
    except trust.DistrustError as error:
        raise OptionError(f"the configuration is not used: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    values: dict[str, Any] = {}
    group = ""
    for number, line in enumerate((line.strip() for line in lines), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or group != "general":
            raise OptionError(f"{path}, line {number}: expects 'key=value' in a group [general]")
        if key == "daemon" and value == "false":
            continue  # a dump of qemu-ga's has it
        if key not in _OPTIONS:
            raise OptionError(f"{path}, line {number}: there is no option {key!r}")
        try:
            values[key] = _OPTIONS[key].read(value)
        except OptionError as error:
            raise OptionError(f"{path}, line {number}: {key} {error}") from error
    return values


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise OptionError(message)


def _parser() -> _Parser:
    parser = _Parser(
        prog="qemu-ga-extended",
        description="A guest agent in front of QEMU's own: it adds commands for the clock and passes the others on.",
        add_help=True,
        allow_abbrev=False,
    )
    add = parser.add_argument
    for key, option in _OPTIONS.items():
        names = [name for name in (option.short, f"--{key}") if name]
        if option.read is _flag:
            add(*names, action="store_true", default=None, help=option.help)
        else:
            action = "append" if option.read is _commands else "store"
            add(*names, action=action, metavar=option.metavar, help=option.help)
    add("-c", "--config", metavar="PATH", help=f"configuration (default: ${CONFIG_VARIABLE} or {CONFIG_FILE})")
    add("-D", "--dump-conf", action="store_true", help="print the configuration and exit")
    add("-d", "--daemonize", action="store_true", help="not supported: let the service manager do it")
    add("-V", "--version", action="version", version=f"qemu-ga-extended {VERSION}")
    return parser


def _joined(lists: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """Add lists up; None if none of them is one."""
    given = [names for names in lists if names is not None]
    return frozenset().union(*given) if given else None


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the command line's options, under the file's keys."""
    given: dict[str, Any] = {}
    for key, option in _OPTIONS.items():
        value = getattr(arguments, key.replace("-", "_"))
        if value is None:
            continue
        try:
            if isinstance(value, list):
                given[key] = _joined(map(option.read, value))
            else:
                given[key] = value if value is True else option.read(value)
        except OptionError as error:
            raise OptionError(f"--{key} {error}") from error
    return given


def read(
    arguments: Sequence[str], environment: Mapping[str, str], default_file: str = CONFIG_FILE
) -> tuple[Options, bool]:
    """Return the options, and whether they are only to be dumped.

    :raises OptionError: an option, or the file, is wrong
    :raises SystemExit: help, version or a list of commands was asked for and printed
    """
    parsed = _parser().parse_args(list(arguments))
    if parsed.daemonize:
        raise OptionError("--daemonize is not supported: let the service manager run the agent in the background")
    if any(value in ("help", "?") for value in (parsed.block_rpcs or []) + (parsed.allow_rpcs or [])):
        sys.stdout.write("".join(f"{name}\n" for name in sorted(OWN_COMMANDS)))
        raise SystemExit(0)
    asked = parsed.config or environment.get(CONFIG_VARIABLE)
    # Only the default one may be missing.
    path = asked or (default_file if os.path.lexists(default_file) else "")
    file = read_file(path) if path else {}
    given = _given(parsed)
    values = {**file, **given}
    for key in ("block-rpcs", "allow-rpcs"):
        values[key] = _joined((file.get(key), given.get(key)))
    values["block-rpcs"] = values["block-rpcs"] or frozenset()
    options = Options(**{key.replace("-", "_"): value for key, value in values.items()})
    return options._replace(path=options.path or _DEFAULT_PATHS[options.method]), parsed.dump_conf


def dump(options: Options) -> str:
    """Return a file with the same options."""
    lines: list[str] = ["[general]"]
    for key in _OPTIONS:
        value = getattr(options, key.replace("-", "_"))
        if value is None or value == "":
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, frozenset):
            # A list without names: an allow list must not become none.
            value = ",".join(sorted(value)) or ("," if key == "allow-rpcs" else "")
        lines.append(f"{key}={value}")
    return "\n".join(lines) + "\n"

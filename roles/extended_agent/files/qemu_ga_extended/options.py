# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options, from the command line and from a file, under qemu-ga's names (qga/main.c, QEMU 10.0.13).

As there, the command line overrides the file, but lists of commands are combined.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from typing import Any, Iterable, Mapping, NamedTuple, NoReturn, Sequence

from . import VERSION, trust
from .policy import OWN_COMMANDS

# Not QGA_CONF: both agents may have the same environment, but must not read the same file.
CONFIG_VARIABLE = "QGA_EXTENDED_CONF"
CONFIG_FILE = "/etc/qemu-ga-extended.conf"

_DEFAULT_PATHS: Mapping[str, str] = {
    "virtio-serial": "/dev/virtio-ports/org.qemu.guest_agent.0",
    "isa-serial": "/dev/ttyS0",
    "unix-listen": "",
    "vsock-listen": "",
}


# The command names that QEMU's schemas allow (valid_name in scripts/qapi/expr.py), but never a single letter: a string
# that was mistaken for a list becomes a list of letters.
_COMMAND = re.compile(r"(__[a-z0-9.-]+_)?(x-)?[a-z][a-z0-9_-]+", re.IGNORECASE | re.ASCII)


class OptionError(Exception):
    """An option or the file is wrong; the text is one sentence."""


class Options(NamedTuple):
    """``stock_path``: the private socket on which the stock agent listens. ``stock_memory``: the file in which the
    stock agent's list of commands is kept. ``user``: the user that the agent becomes at its start (empty: no change).
    The other names are qemu-ga's.
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
    # GLib's key files accept only these.
    if value not in ("true", "false"):
        raise OptionError(f"expects true or false, not {value!r}")
    return value == "true"


def _commands(value: str) -> frozenset[str] | None:
    """Return the names in a list, or None for an empty string, which is not a list. A string of separators is a list
    without names, and allows nothing (split_list and ga_command_is_allowed, qga/main.c, QEMU 10.0.13; its dumps have
    empty strings).
    """
    if not value:
        return None
    names = frozenset(name.strip() for name in value.split(",") if name.strip())
    # Stricter than qemu-ga: a name that cannot be a command is an error, as ignoring it could lift an intended block.
    wrong = sorted(name for name in names if not _COMMAND.fullmatch(name))
    if wrong:
        raise OptionError(f"expects command names, such as guest-exec, not {', '.join(map(repr, wrong))}")
    return names


def _method(value: str) -> str:
    if value not in _DEFAULT_PATHS:
        raise OptionError(f"expects one of {', '.join(_DEFAULT_PATHS)}, not {value!r}")
    return value


class _Option(NamedTuple):
    """An option of the file and of the command line: how it is read, its short form and its help text."""

    read: Any
    short: str
    metavar: str
    help: str


_OPTIONS: Mapping[str, _Option] = {
    "method": _Option(_method, "-m", "METHOD", f"transport: {', '.join(_DEFAULT_PATHS)} (default: {Options().method})"),
    "path": _Option(str, "-p", "PATH", "device or socket of the transport; vsock-listen takes CID:PORT"),
    "stock-path": _Option(str, "", "PATH", f"socket of the stock agent (default: {Options().stock_path})"),
    "stock-memory": _Option(str, "", "PATH", "file for the stock agent's list of commands (default: none)"),
    "user": _Option(str, "", "NAME", "switch to this user, with CAP_SYS_TIME only (default: do not switch)"),
    "logfile": _Option(str, "-l", "PATH", "log file (default: standard error)"),
    "pidfile": _Option(str, "-f", "PATH", "PID file (default: none)"),
    "statedir": _Option(str, "-t", "DIR", f"the stock agent's state directory (default: {Options().statedir})"),
    "verbose": _Option(_flag, "-v", "", "log every command's name"),
    "retry-path": _Option(_flag, "-r", "", "retry if the device is missing or lost"),
    "block-rpcs": _Option(_commands, "-b", "LIST", "commands to refuse; 'help' lists this agent's own commands"),
    "allow-rpcs": _Option(_commands, "-a", "LIST", "the only commands to allow"),
}


def read_file(path: str) -> dict[str, Any]:
    """Return the file's values by their keys.

    :raises OptionError: it cannot be read, another user can write it, or it has an unknown option
    """
    try:
        lines = trust.read(path).splitlines()
    except trust.DistrustError as error:
        raise OptionError(f"the configuration was rejected: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from error
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
            raise OptionError(f"{path}, line {number}: expected 'key=value' in the group [general]")
        if key == "daemon" and value == "false":
            continue  # it is in qemu-ga's dumps
        if key not in _OPTIONS:
            raise OptionError(f"{path}, line {number}: unknown option {key!r}")
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
        description="A guest agent in front of QEMU's own. It adds clock commands and forwards all others.",
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
    add("-d", "--daemonize", action="store_true", help="not supported: use a service manager")
    add("-V", "--version", action="version", version=f"qemu-ga-extended {VERSION}")
    return parser


def _joined(lists: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    """Return the union of the lists, or None if all are None."""
    given = [names for names in lists if names is not None]
    return frozenset().union(*given) if given else None


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the command line's options by the file's keys."""
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
    """Return the options, and whether they are to be dumped.

    :raises OptionError: an option, or the file, is wrong
    :raises SystemExit: the help, the version or a list of commands was requested and printed
    """
    parsed = _parser().parse_args(list(arguments))
    if parsed.daemonize:
        raise OptionError("--daemonize is not supported: run the agent under a service manager")
    if any(value in ("help", "?") for value in (parsed.block_rpcs or []) + (parsed.allow_rpcs or [])):
        sys.stdout.write("".join(f"{name}\n" for name in sorted(OWN_COMMANDS)))
        raise SystemExit(0)
    asked = parsed.config or environment.get(CONFIG_VARIABLE)
    # Only the default file may be missing.
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
    """Return a file's text with the same options."""
    lines: list[str] = ["[general]"]
    for key in _OPTIONS:
        value = getattr(options, key.replace("-", "_"))
        if value is None or value == "":
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, frozenset):
            # A comma is a list without names; an empty string would lift the allow list.
            value = ",".join(sorted(value)) or ("," if key == "allow-rpcs" else "")
        lines.append(f"{key}={value}")
    return "\n".join(lines) + "\n"

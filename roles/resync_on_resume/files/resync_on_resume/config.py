# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's configuration file: sections and keys."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from guest_agent._clock.methods import BACKWARD, METHOD_CHOICES
from guest_agent._clock.options import require_consistent
from guest_agent._errors import InvalidOptionError
from guest_agent._ranges import check_numbers

CONFIG_FILE = "/etc/qga-resync-on-resume.conf"


class ConfigError(Exception):
    """The message is one sentence that names the file, the section and the key."""


@dataclass(frozen=True)
class Config:
    """``agent_patience`` and ``timeout`` are in seconds. ``resync`` has the options of ``qga_update_time``.
    ``metrics_file``: no file is written if it is empty.
    """

    uris: tuple[str, ...]
    agent_patience: float
    look_at_start: bool
    timeout: float
    concurrency: int
    resync: Mapping[str, Any]
    metrics_file: str


# ------------------------------------------------------------------------------------------------------------- values


# libvirt accepts qemu:/system for qemu:///system. A name without a scheme is an alias from libvirt.conf.
_URI = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE | re.ASCII)


def _uris(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split()))
    if not found:
        raise ValueError("expected the URI of a hypervisor, such as qemu:///system")
    wrong = [uri for uri in found if not _URI.match(uri)]
    if wrong:
        raise ValueError(f"'{wrong[0]}' is not the URI of a hypervisor, such as qemu:///system")
    return found


def _flag(text: str) -> bool:
    try:
        return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError("expected yes or no") from None


def _number(kind: type[float], expected: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"expected {expected}") from None

    return read


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text

    return read


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("expected an absolute path, or nothing")
    return text


_seconds = _number(float, "a number of seconds")
_count = _number(int, "a whole number")


class _Key(NamedTuple):
    """``option``: the name of the module option that has the same range."""

    read: Callable[[str], Any]
    default: str
    option: str = ""


_KEYS: Mapping[str, Mapping[str, _Key]] = {
    "watch": {
        "uris": _Key(_uris, "qemu:///system"),
        "agent_patience": _Key(_seconds, "120", "wait_timeout"),
        "look_at_start": _Key(_flag, "yes"),
    },
    "resync": {
        "tolerance": _Key(_seconds, "0.1", "tolerance"),
        "method": _Key(_one_of(METHOD_CHOICES), "auto"),
        "attempts": _Key(_count, "3", "attempts"),
        "samples": _Key(_count, "16", "samples"),
        "backward": _Key(_one_of(BACKWARD), "step"),
        "require_synchronized_host": _Key(_flag, "no"),
        "timeout": _Key(_seconds, "5", "timeout"),
        "concurrency": _Key(_count, "20", "concurrency"),
    },
    "metrics": {
        "file": _Key(_path, ""),
    },
}


# --------------------------------------------------------------------------------------------------------------- file


def read(path: str) -> Config:
    """
    :raises ConfigError: the file cannot be read, or has an unknown key or an invalid value
    """
    parser = _parser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read '{path}': {getattr(error, 'strerror', None) or error}") from error
    except configparser.Error as error:
        raise ConfigError(f"cannot read '{path}': {' '.join(str(error).split())}") from error
    for section in parser.sections():
        if section not in _KEYS:
            raise ConfigError(f"{path}: unknown section [{section}]; expected one of [{'], ['.join(_KEYS)}]")
        for key in parser[section]:
            if key not in _KEYS[section]:
                known = ", ".join(_KEYS[section])
                raise ConfigError(f"{path}: unknown key '{key}' in [{section}]; expected one of {known}")
    watch, resync, metrics = (
        {key: _value(path, section, key, parser.get(section, key, fallback=keys[key].default)) for key in keys}
        for section, keys in _KEYS.items()
    )
    try:
        require_consistent(resync)
    except InvalidOptionError as error:
        raise ConfigError(f"{path}: [resync] {error.message}: {error.hint}") from error
    return Config(
        uris=watch["uris"],
        agent_patience=watch["agent_patience"],
        look_at_start=watch["look_at_start"],
        timeout=resync.pop("timeout"),
        concurrency=resync.pop("concurrency"),
        resync=MappingProxyType({**resync, "update_rtc": False}),
        metrics_file=metrics["file"],
    )


def _parser() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(
        delimiters=("=",),
        inline_comment_prefixes=(";",),
        empty_lines_in_values=False,
        default_section="",  # none
        interpolation=None,
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are case-sensitive
    return parser


def _value(path: str, section: str, key: str, text: str) -> Any:
    known = _KEYS[section][key]
    try:
        value = known.read(text)
        if known.option:
            check_numbers({known.option: value})
    except (ValueError, InvalidOptionError) as error:
        wrong = error.hint if isinstance(error, InvalidOptionError) else str(error)
        given = f"'{' '.join(text.split())}'" if text.split() else "empty"
        raise ConfigError(f"{path}: [{section}] {key} is {given}: {wrong}") from error
    return value

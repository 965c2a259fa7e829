# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the service is told, in a file of sections and keys."""

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
    """One sentence: the file, where in it, and what is wrong there."""


@dataclass(frozen=True)
class Config:
    """``agent_patience`` and ``timeout`` are in seconds. ``resync`` has the options of a resync, as the module names
    them. ``metrics_file``: empty, none is written.
    """

    uris: tuple[str, ...]
    agent_patience: float
    look_at_start: bool
    timeout: float
    concurrency: int
    resync: Mapping[str, Any]
    metrics_file: str


# ------------------------------------------------------------------------------------------------------------- values


# libvirt takes qemu:/system for qemu:///system. What has no scheme can only be an alias from its configuration.
_URI = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE | re.ASCII)


def _uris(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(text.split()))
    if not found:
        raise ValueError("expects the URI of a hypervisor, such as qemu:///system")
    wrong = [uri for uri in found if not _URI.match(uri)]
    if wrong:
        raise ValueError(f"{wrong[0]} is not the URI of a hypervisor, such as qemu:///system")
    return found


def _flag(text: str) -> bool:
    try:
        return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError("expects yes or no") from None


def _number(kind: type[float], expected: str) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise ValueError(f"expects {expected}") from None

    return read


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expects one of {', '.join(choices)}")
        return text

    return read


def _path(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError("expects a path from the root, or nothing")
    return text


_seconds = _number(float, "a number of seconds")
_count = _number(int, "a whole number")


class _Key(NamedTuple):
    """``option``: the modules' name for it, under which its range is known."""

    read: Callable[[str], Any]
    usual: str
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
    :raises ConfigError: it cannot be read, or holds what is not known or cannot be
    """
    parser = _parser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file, path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except configparser.Error as error:
        raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    for section in parser.sections():
        if section not in _KEYS:
            raise ConfigError(f"{path}: there is no section [{section}], only [{'], ['.join(_KEYS)}]")
        for key in parser[section]:
            if key not in _KEYS[section]:
                raise ConfigError(f"{path}: there is no key {key} in [{section}], only {', '.join(_KEYS[section])}")
    watch, resync, metrics = (
        {key: _value(path, section, key, parser.get(section, key, fallback=keys[key].usual)) for key in keys}
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
        default_section="",  # there is none
        interpolation=None,
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are as they are
    return parser


def _value(path: str, section: str, key: str, text: str) -> Any:
    known = _KEYS[section][key]
    try:
        value = known.read(text)
        if known.option:
            check_numbers({known.option: value})
    except (ValueError, InvalidOptionError) as error:
        wrong = error.hint if isinstance(error, InvalidOptionError) else str(error)
        raise ConfigError(f"{path}: [{section}] {key} is {' '.join(text.split()) or 'empty'}: {wrong}") from error
    return value

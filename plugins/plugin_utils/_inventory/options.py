# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the inventory plugin, as typed values."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Callable, Iterable, Mapping, NamedTuple

from ...module_utils._errors import InvalidOptionError
from ...module_utils._facts import addresses, subsets
from ...module_utils._ranges import check_numbers
from ...module_utils._targets import require_text
from .listing import Query

_PREFIX = re.compile(r"(?!(?i:ansible))[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_GROUP_PREFIX = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)?\Z", re.ASCII)

_DOCUMENTATION = "Run `ansible-doc -t inventory qemu.guest_agent.libvirt_guests` for a list of options."

FILTERS = ("include", "exclude")

# Functions from a guest's address to the connection's variables, by the value of the option "connection".
CONNECTIONS: Mapping[str, Callable[[str | None], Mapping[str, str]]] = {
    "ssh": lambda address: {} if address is None else {"ansible_host": address},
    "qga": lambda _address: {"ansible_connection": "qemu.guest_agent.qga"},
    "none": lambda _address: {},
}


class Filter(NamedTuple):
    """Whether guests for which ``condition`` is true are included or left out."""

    is_included: bool
    condition: Any


class Settings(NamedTuple):
    query: Query
    hypervisors: Mapping[str, str]
    prefix: str
    hostnames: str
    connection: str
    address: addresses.Rule
    group_by: tuple[str, ...]
    group_prefix: str
    filters: tuple[Filter, ...]
    is_strict_on_agents: bool


def require_known(given: Iterable[Any], options: Iterable[str]) -> None:
    """Reject unknown options, which Ansible itself ignores.

    :raises InvalidOptionError: an option does not exist
    """
    known = sorted(option for option in options if not option.startswith("_"))
    for option in given:
        if option not in known:
            near = get_close_matches(str(option), known, 1)
            hint = f"Did you mean {near[0]}?" if near else _DOCUMENTATION
            raise InvalidOptionError(f"there is no option '{option}'", hint)


def settings_of(option: Callable[[str], Any]) -> Settings:
    """
    :raises InvalidOptionError: an option has an invalid value
    """
    gather_subset = _texts(option, "gather_subset")
    subsets.select(gather_subset)
    numbers = {"timeout": option("timeout"), "concurrency": option("concurrency")}
    check_numbers(numbers)
    uris = _some(option, "uris")
    return Settings(
        query=Query(
            uris=uris,
            wanted=_some(option, "domains"),
            excluded=_texts(option, "exclude"),
            states=_some(option, "states"),
            gather_subset=gather_subset,
            timeout=float(numbers["timeout"]),
            concurrency=int(numbers["concurrency"]),
            is_strict=option("strict_hypervisors"),
        ),
        hypervisors=_hypervisors(option("hypervisors"), uris),
        prefix=_matching(option, "prefix", _PREFIX, "; do not begin it with ansible"),
        hostnames=str(option("hostnames")),
        connection=str(option("connection")),
        address=addresses.rule(
            _some(option, "address_family"), _texts(option, "address_networks"), _texts(option, "address_interfaces")
        ),
        group_by=_texts(option, "group_by"),
        group_prefix=_matching(option, "group_prefix", _GROUP_PREFIX, ", or leave it empty"),
        filters=tuple(map(_filter, option("filters"))),
        is_strict_on_agents=option("strict_agents"),
    )


def _texts(option: Callable[[str], Any], name: str) -> tuple[str, ...]:
    return tuple(_text(name, entry) for entry in option(name))


def _text(name: str, entry: Any) -> str:
    # YAML reads 101 and 1e3 as numbers, but they can be names.
    if isinstance(entry, bool) or not isinstance(entry, (str, int, float)):
        raise InvalidOptionError(
            f"an entry of {name} is {'empty' if entry is None else f'of type {type(entry).__name__}'}",
            f"Write each entry of {name} as a string, in quotes if YAML would read it as another type.",
        )
    # The unbound method returns a plain str without Ansible's markers.
    text = str.__str__(entry) if isinstance(entry, str) else str(entry)
    require_text(f"an entry of {name}", text[text.startswith("!") :])
    return text


def _hypervisors(names: Mapping[Any, Any], uris: Iterable[str]) -> dict[str, str]:
    known = {_text("hypervisors", uri): _text("hypervisors", name) for uri, name in names.items()}
    for uri in known:
        if uri not in uris:
            raise InvalidOptionError(f"hypervisors has the URI '{uri}', which is not in uris", "Use the URIs of uris.")
    return known


def _some(option: Callable[[str], Any], name: str) -> tuple[str, ...]:
    values = _texts(option, name)
    if not values:
        raise InvalidOptionError(f"{name} is an empty list", f"Give {name} a value, or leave it out.")
    return values


def _matching(option: Callable[[str], Any], name: str, form: re.Pattern[str], what_else: str) -> str:
    value = str.__str__(option(name))
    if not form.match(value):
        raise InvalidOptionError(
            f"{name} is {value!r}",
            f"Begin it with a letter or underscore; use only letters, digits and underscores{what_else}.",
        )
    return value


def _filter(entry: Any) -> Filter:
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((kind, condition),) = entry.items()
        if kind in FILTERS and isinstance(condition, (str, bool)):
            return Filter(kind == "include", condition)
    raise InvalidOptionError(
        f"an entry of filters is {entry!r}",
        "Each entry must have one key, include or exclude, with a condition such as `qga_os.id == 'debian'`.",
    )

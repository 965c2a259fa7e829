# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding the guests that the options for many guests select."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

from .._errors import InvalidOptionError, NotFoundError
from .._event_loop import tasks
from .._protocol.limits import Limits
from .._targets import Params, require_text
from .runner import Guest
from .selection import Candidate, Selected, Selection, is_pattern, select


class Fleet(NamedTuple):
    guests: tuple[Guest, ...]
    warnings: tuple[str, ...] = ()


def fleet_of(params: Params, limits: Limits) -> contextlib.AbstractContextManager[Fleet]:
    """Find the guests that ``domains`` or ``sockets`` select, and close their connections at the end. ``limits`` apply
    to each of their messages.

    :raises InvalidOptionError: the options contradict each other, or select nothing
    :raises NotFoundError: a pattern matches no guest
    :raises QgaError: the hypervisor is not available
    """
    option = "domains" if params.get("domains") is not None else "sockets"
    for name in (option, "exclude"):
        for entry in params[name]:
            require_text(f"an entry of {name}", entry[entry.startswith("!") :])
    if not params[option] and not params["allow_empty"]:
        raise InvalidOptionError(
            f"{option} is an empty list", f"List guests in {option}, or set allow_empty if there may be none."
        )
    return FINDERS[option](params, limits)


def _fleet(selection: Selection, params: Params, where: str, guest: Callable[[Selected], Guest]) -> Fleet:
    if selection.unmatched and not params["allow_empty"]:
        named = ", ".join(f"'{entry}'" for entry in selection.unmatched)
        raise NotFoundError(
            f"no {where} matches {named}",
            "Correct the pattern, or set allow_empty if there may be none.",
        )
    warnings = tuple(f"'{name}' is listed more than once; it is processed once" for name in selection.repeated)
    return Fleet(tuple(guest(selected) for selected in selection.guests), warnings)


@contextlib.contextmanager
def _domains(params: Params, limits: Limits) -> Iterator[Fleet]:
    from .._hypervisor.connections import Hypervisor
    from .._hypervisor.domains import list_domains
    from .domains import guest_of, select_domains

    uri: str = params["uri"]
    hypervisor = Hypervisor(uri)

    def guest(selected: Selected) -> Guest:
        domain = None if selected.candidate is None else by_uuid[selected.candidate.key]
        return guest_of(selected, domain, hypervisor, limits, params["skip_unusable"] or not selected.by_name)

    try:
        domains = tasks.run(list_domains(hypervisor.lines[0], params["timeout"]))
        by_uuid = {domain.uuid: domain for domain in domains}
        selection = select_domains(domains, params["domains"], params["exclude"])
        yield _fleet(selection, params, f"domain at {uri}", guest)
    finally:
        hypervisor.close()


@contextlib.contextmanager
def _sockets(params: Params, limits: Limits) -> Iterator[Fleet]:
    from .._channels.addresses import UnixAddress
    from .._channels.stream import StreamChannel
    from .vm_names import node_name

    if params["sockets"] and all(entry.startswith("!") for entry in params["sockets"]):
        raise InvalidOptionError(
            "sockets has only exclusions", "Add a path or a pattern, such as /var/run/qemu-server/*.qga."
        )

    def guest(selected: Selected) -> Guest:
        problem = None
        if not os.path.exists(selected.name):
            hint = "Check the path; QEMU creates the socket when it starts."
            problem = NotFoundError(f"there is no socket '{selected.name}'", hint)
        return Guest(
            selected.name,
            lambda: StreamChannel(UnixAddress(selected.name), limits),
            is_optional=params["skip_unusable"] or not selected.by_name,
            problem=problem,
            vm_name=node_name(selected.name),
        )

    def named(entry: str) -> Sequence[Candidate]:
        return () if is_pattern(entry) and not os.path.lexists(entry) else (_candidate(entry),)

    def matching(pattern: str) -> Sequence[Candidate]:
        return [_candidate(path) for path in glob.glob(pattern) if _is_socket(path)]

    wanted = ["!" + _expanded(entry[1:]) if entry.startswith("!") else entry for entry in params["sockets"]]
    excluded = [_expanded(entry) for entry in params["exclude"]]
    yield _fleet(select(wanted, excluded, named, matching), params, "socket", guest)


def _expanded(path: str) -> str:
    """Expand a path as Ansible does for options of this type. With a leading ``!``, an entry is not a path to it."""
    return os.path.expanduser(os.path.expandvars(path))


def _candidate(path: str) -> Candidate:
    real = os.path.realpath(path)
    return Candidate(path, real, (os.path.basename(path), real))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


FINDERS: Mapping[str, Callable[[Params, Limits], contextlib.AbstractContextManager[Fleet]]] = {
    "domains": _domains,
    "sockets": _sockets,
}

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An event source of ansible-rulebook: guests of libvirt that woke with a stale clock.

ansible-rulebook runs this file by its path and without its package, so it finds the rest of its collection by itself.
All watching is done there, in ``module_utils/_watch``.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import json
import logging
import math
import os
import signal
import sys
import time
from datetime import datetime, timezone
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple

if TYPE_CHECKING:
    from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.notices import Notice, Stale

DOCUMENTATION = r"""
---
short_description: Tell of guests of libvirt whose clock may be stale
description:
  - A guest that was paused, saved to a file, reverted to a snapshot or migrated wakes with the clock it fell asleep
    with. This source puts one event for each such guest, as soon as it runs and its guest agent is connected.
  - What happens to one guest in one go is one event, however many events libvirt makes of it.
  - A hypervisor that cannot be reached is tried for ever, and the rulebook runs on. Whenever it was lost and is there
    again, there is an event for each of its running guests, since nobody knows what happened to them meanwhile.
  - An event is held back while ansible-rulebook takes no more of them. What happens to its guest meanwhile is told by
    one event behind it.
requirements:
  - libvirt-python, for the interpreter that runs ansible-rulebook
  - The collection qemu.guest_agent, where Ansible finds it by itself or by E(ANSIBLE_COLLECTIONS_PATH)
options:
  uris:
    description:
      - The hypervisors to watch, as connection URIs of libvirt; one may be given as a text.
    type: list
    elements: str
    default: ["qemu:///system"]
  agent_patience:
    description:
      - Seconds to wait for the agent of a guest that woke to be connected. There is an event behind them even if it
        is not.
    type: float
    default: 120
  look_at_start:
    description:
      - Whether there is an event for each running guest when the source starts, with the cause V(watch_began).
      - If not, events are of what happens from then on. The playbook qemu.guest_agent.resync_fleet does all running
        guests in one run, where events would be a run each.
    type: bool
    default: false
  causes:
    description:
      - Events of these causes only; one may be given as a text.
      - V(resumed), from a pause; V(restored), from a file or a managed save; V(reverted), to a snapshot; V(migrated),
        to a hypervisor that is watched; V(woke_up), from a sleep that the guest itself had begun; V(watch_resumed),
        when a lost hypervisor is there again; V(watch_began), for O(look_at_start).
    type: list
    elements: str
    default: [resumed, restored, reverted, migrated, woke_up, watch_began, watch_resumed]
notes:
  - An event is C({"libvirt_guest":{...}}) with C(event), which is V(clock_may_be_stale); C(domain), the guest's name;
    C(uuid) and C(uri), which address it; C(cause), one of O(causes); C(heard_at), when libvirt told of it, in ISO 8601
    by this machine's clock; and C(age_ns), how many nanoseconds before the event that was.
  - Act on C(uuid). C(domain) is for people and for conditions. Where a name has what would begin a template, or what
    cannot be seen, C(domain) has an escape such as C(\x7b) in its place, since Ansible takes texts of an event for
    templates.
  - Hypervisors that are lost and found again are told of in the log of ansible-rulebook.
"""

EXAMPLES = r"""
- qemu.guest_agent.libvirt_guest:

- qemu.guest_agent.libvirt_guest:
    uris: [qemu+ssh://hv1/system, qemu+ssh://hv2/system]
    agent_patience: 300
    causes: [restored, reverted, migrated]
"""

# Under this name in sys.modules: no collection that somebody imports is disturbed, and there is one of it, since a
# process has one event loop of libvirt.
_PACKAGE = "_qemu_guest_agent_of_event_source"
_COLLECTION = Path("ansible_collections", "qemu", "guest_agent")
_MODULE_UTILS = Path("plugins", "module_utils")
# Of this file's directory, below the collection's.
_DEPTH = len(Path("extensions", "eda", "plugins", "event_source").parts)
_LONGEST_NAME = 255  # NAME_MAX: libvirt keeps a domain's definition in a file of its name

_log = logging.getLogger("qemu.guest_agent.libvirt_guest")


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Put an event for each guest whose clock may be stale, until it is cancelled.

    :raises ValueError: an argument that does not exist, or a value that cannot be used
    :raises RuntimeError: the collection or libvirt-python is not installed
    """
    settings = _read(args)
    in_asyncio = _core("_event_loop.in_asyncio")
    try:
        watcher = _core("_watch.watcher").Watcher(settings.uris, settings.agent_patience, settings.look_at_start)
    except _core("_errors").MissingLibraryError as error:
        raise RuntimeError(
            f"{error.message}. Install python3-libvirt or libvirt-python for {sys.executable}, which runs this source."
        ) from None
    try:
        while True:
            notice = await in_asyncio.run(watcher.next())
            if not isinstance(notice, _core("_watch.notices").Stale):
                _say(notice)
                continue
            if notice.cause in settings.causes:
                await queue.put(_event(notice))
            watcher.done(notice.guest)
            # The loop's others have their turn, even if the queue took it at once.
            await asyncio.sleep(0)
    finally:
        watcher.close()


def _event(stale: Stale) -> dict[str, Any]:
    age_ns = time.monotonic_ns() - stale.since_ns
    heard_at = datetime.fromtimestamp((time.time_ns() - age_ns) / 1e9, timezone.utc)
    return {
        "libvirt_guest": {
            "event": "clock_may_be_stale",
            "domain": _core("_untrusted").visible(stale.guest.name, _LONGEST_NAME),
            "uuid": stale.guest.uuid,
            "uri": stale.guest.uri,
            "cause": stale.cause,
            "heard_at": heard_at.isoformat(),
            "age_ns": age_ns,
        }
    }


def _say(notice: Notice) -> None:
    notices = _core("_watch.notices")
    if isinstance(notice, notices.Lost):
        _log.warning("%s is not watched: %s", notice.uri, notice.error.message)
    elif isinstance(notice, notices.Connected):
        # As loud as that it was lost, for those who have read that.
        _log.warning("%s is watched, running guests: %d", notice.uri, notice.running)
    elif isinstance(notice, (notices.Withdrawn, notices.NotNeeded)):
        is_withdrawn = isinstance(notice, notices.Withdrawn)
        what = f"was {notice.became} before it could be asked" if is_withdrawn else "does not need a resync"
        name = _core("_untrusted").visible(notice.guest.name, _LONGEST_NAME)
        _log.info("%s at %s %s (%s)", name, notice.guest.uri, what, notice.cause)


class _Settings(NamedTuple):
    uris: tuple[str, ...]
    agent_patience: float
    look_at_start: bool
    causes: frozenset[str]


def _read(args: Mapping[str, Any]) -> _Settings:
    unknown = sorted(str(name) for name in args if name not in _Settings._fields)
    if unknown:
        known = ", ".join(sorted(_Settings._fields))
        raise ValueError(f"libvirt_guest has no argument {unknown[0]!r}; it has {known}.")
    # None stands for an argument that was not given: a rulebook's template cannot leave one out.
    given = {name: value for name, value in args.items() if value is not None}
    known_causes = _core("_watch.causes")
    ever_told = [cause for cause in known_causes.ALL if cause != known_causes.RESET]
    causes = _texts("causes", given.get("causes", ever_told))
    for cause in causes:
        if cause not in ever_told:
            raise ValueError(f"libvirt_guest knows no cause {cause!r}; there are {', '.join(ever_told)}.")
    return _Settings(
        uris=_texts("uris", given.get("uris", "qemu:///system")),
        agent_patience=_seconds(
            "agent_patience", given.get("agent_patience", _core("_watch.watcher").PATIENCE_SECONDS)
        ),
        look_at_start=_flag("look_at_start", given.get("look_at_start", False)),
        causes=frozenset(causes),
    )


def _texts(name: str, value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not (isinstance(texts, (list, tuple)) and texts and all(isinstance(text, str) and text for text in texts)):
        raise _unusable(name, "a text or a list of texts", value)
    return tuple(texts)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise _unusable(name, "seconds, 0 or more", value)
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _unusable(name, "true or false", value)
    return value


def _unusable(name: str, wanted: str, value: object) -> ValueError:
    return ValueError(f"The argument {name} of libvirt_guest has to be {wanted}, and is {value!r}.")


def _core(name: str) -> ModuleType:
    """Return a module of the collection's module_utils."""
    if _PACKAGE not in sys.modules:
        spec = ModuleSpec(_PACKAGE, None, is_package=True)
        spec.submodule_search_locations = [str(_module_utils())]
        sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _module_utils() -> Path:
    places = list(_places())
    for place in places:
        if (place / _MODULE_UTILS / "_watch" / "watcher.py").is_file():
            return place / _MODULE_UTILS
    searched = ", ".join(dict.fromkeys(map(str, places)))
    raise RuntimeError(
        f"libvirt_guest needs the rest of its collection, qemu.guest_agent, which is in none of these: {searched}. "
        "Install it there, or name the path that it is installed below by ANSIBLE_COLLECTIONS_PATH."
    )


def _places() -> Iterator[Path]:
    """Where the collection may be: beside this file, where Python finds it, and where Ansible looks for collections."""
    here = Path(__file__).resolve()
    if len(here.parents) > _DEPTH:
        yield here.parents[_DEPTH]
    with contextlib.suppress(ImportError, ValueError):  # the latter, if somebody put it into sys.modules without a spec
        spec = importlib.util.find_spec(".".join(_COLLECTION.parts))
        yield from map(Path, spec.submodule_search_locations or () if spec is not None else ())
    home = os.environ.get("ANSIBLE_HOME") or "~/.ansible"
    usual = os.pathsep.join((f"{home}/collections", "/usr/share/ansible/collections"))
    for path in (os.environ.get("ANSIBLE_COLLECTIONS_PATH") or usual).split(os.pathsep):
        if path:
            yield Path(path).expanduser() / _COLLECTION


if __name__ == "__main__":

    class _PrintingQueue(asyncio.Queue):  # type: ignore[type-arg]  # no type can be given to it before Python 3.9
        """Stands in for ansible-rulebook's."""

        async def put(self, item: Any) -> None:
            print(json.dumps(item), flush=True)

    # Who starts it in the background may have had it ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(_PrintingQueue(), {"uris": sys.argv[1:] or None}))

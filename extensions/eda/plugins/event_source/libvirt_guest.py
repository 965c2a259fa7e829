# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An event source for ansible-rulebook: libvirt guests that were resumed and whose clocks may be stale.

ansible-rulebook runs this file by its path, not as a part of its package, so it has to locate its collection. The
watching is implemented there, in ``module_utils/_watch``.
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
short_description: Emit events for libvirt guests whose clock may be stale
description:
  - A guest that was paused, saved to a file, reverted to a snapshot or migrated resumes with a stale clock. This source
    emits one event for each such guest, as soon as it runs and its guest agent is connected.
  - One action on a guest is one event, even if libvirt reports it as several.
  - Connecting to a hypervisor is retried forever, and the rulebook keeps running. Whenever a lost connection is
    restored, there is an event for each of the running guests, because events may have been missed.
  - An event is held back while the queue of ansible-rulebook is full. Later events of its guest are combined into one
    more.
requirements:
  - ansible-rulebook 1.3 with Python 3.9 or newer
  - libvirt-python for the interpreter that runs ansible-rulebook
  - The collection qemu.guest_agent, in one of Ansible's default paths or in E(ANSIBLE_COLLECTIONS_PATH)
options:
  uris:
    description:
      - The hypervisors to watch, as libvirt connection URIs. A single one may be given as a string.
    type: list
    elements: str
    default: ["qemu:///system"]
  agent_patience:
    description:
      - Seconds to wait for the agent of a resumed guest to connect. After that, the event is emitted in any case.
    type: float
    default: 120
  look_at_start:
    description:
      - Whether to emit an event with the cause V(watch_began) for each running guest when the source starts.
      - To resync all running guests in one run of Ansible, use the playbook qemu.guest_agent.resync_fleet. Each event
        here is a run of its own.
    type: bool
    default: false
  causes:
    description:
      - Emit events with these causes only. A single one may be given as a string.
      - V(resumed), from a pause; V(restored), from a file or a managed save; V(reverted), to a snapshot; V(migrated),
        to a watched hypervisor; V(woke_up), from a suspension that the guest started itself; V(watch_resumed), after a
        lost connection to a hypervisor was restored; V(watch_began), for O(look_at_start).
    type: list
    elements: str
    default: [resumed, restored, reverted, migrated, woke_up, watch_began, watch_resumed]
notes:
  - An event is C({"libvirt_guest":{...}}) with C(event), which is V(clock_may_be_stale); C(domain), the guest's name;
    C(uuid) and C(uri), which address the guest; C(cause), one of O(causes); C(heard_at), when libvirt reported it, in
    ISO 8601 by this machine's clock; and C(age_ns), the nanoseconds from then to the event.
  - Use C(uuid) in actions. C(domain) is for people and for conditions. Ansible takes strings of an event for templates.
    So C(domain) has an escape such as C(\x7b) for characters that could begin a template, and for invisible ones.
  - Lost and restored connections to hypervisors are logged by ansible-rulebook.
"""

EXAMPLES = r"""
- qemu.guest_agent.libvirt_guest:

- qemu.guest_agent.libvirt_guest:
    uris: [qemu+ssh://hv1/system, qemu+ssh://hv2/system]
    agent_patience: 300
    causes: [restored, reverted, migrated]
"""

# A private name in sys.modules, so that an imported collection is not affected. It is loaded once, because a process
# has only one event loop of libvirt.
_PACKAGE = "_qemu_guest_agent_of_event_source"
_COLLECTION = Path("ansible_collections", "qemu", "guest_agent")
_MODULE_UTILS = Path("plugins", "module_utils")
# The depth of this file's directory below the collection's.
_DEPTH = len(Path("extensions", "eda", "plugins", "event_source").parts)
_LONGEST_NAME = 255  # NAME_MAX: libvirt stores a domain's definition in a file with its name

_log = logging.getLogger("qemu.guest_agent.libvirt_guest")


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Put an event into the queue for each guest whose clock may be stale, until it is canceled.

    :raises ValueError: an unknown argument, or an invalid value
    :raises RuntimeError: the collection or libvirt-python is not installed
    """
    settings = _read(args)
    in_asyncio = _core("_event_loop.in_asyncio")
    try:
        watcher = _core("_watch.watcher").Watcher(settings.uris, settings.agent_patience, settings.look_at_start)
    except _core("_errors").MissingLibraryError as error:
        raise RuntimeError(
            f"{error.message}. Install python3-libvirt or libvirt-python for this interpreter, which runs the source."
        ) from None
    try:
        while True:
            notice = await in_asyncio.run(watcher.next())
            if not isinstance(notice, _core("_watch.notices").Stale):
                _log_notice(notice)
                continue
            if notice.cause in settings.causes:
                await queue.put(_event(notice))
            watcher.done(notice.guest)
            # Let other tasks of the loop run, even if the queue was not full.
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


def _log_notice(notice: Notice) -> None:
    notices = _core("_watch.notices")
    if isinstance(notice, notices.Lost):
        _log.warning("%s is not watched: %s", notice.uri, notice.error.message)
    elif isinstance(notice, notices.Connected):
        # A warning, so that all who see the loss also see this.
        _log.warning("%s is watched, running guests: %d", notice.uri, notice.running)
    elif isinstance(notice, (notices.Withdrawn, notices.NotNeeded)):
        is_withdrawn = isinstance(notice, notices.Withdrawn)
        what = f"was {notice.became} before its resync" if is_withdrawn else "does not need a resync"
        name = _core("_untrusted").visible(notice.guest.name, _LONGEST_NAME)
        _log.info("domain '%s' at %s %s (%s)", name, notice.guest.uri, what, notice.cause)


class _Settings(NamedTuple):
    uris: tuple[str, ...]
    agent_patience: float
    look_at_start: bool
    causes: frozenset[str]


def _read(args: Mapping[str, Any]) -> _Settings:
    unknown = sorted(str(name) for name in args if name not in _Settings._fields)
    if unknown:
        known = ", ".join(sorted(_Settings._fields))
        raise ValueError(f"Unknown argument {unknown[0]!r} of libvirt_guest; expected one of {known}.")
    # None means that the argument was not given: a rulebook's template cannot omit one.
    given = {name: value for name, value in args.items() if value is not None}
    known_causes = _core("_watch.causes")
    emitted = [cause for cause in known_causes.ALL if cause != known_causes.RESET]
    causes = _texts("causes", given.get("causes", emitted))
    for cause in causes:
        if cause not in emitted:
            raise ValueError(f"Unknown cause {cause!r} of libvirt_guest; expected one of {', '.join(emitted)}.")
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
        raise _invalid(name, "a string or a list of strings", value)
    return tuple(texts)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise _invalid(name, "seconds, 0 or more", value)
    return value


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _invalid(name, "true or false", value)
    return value


def _invalid(name: str, expected: str, value: object) -> ValueError:
    return ValueError(f"The argument {name} of libvirt_guest must be {expected}, not {value!r}.")


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
        f"libvirt_guest needs the rest of its collection, qemu.guest_agent, which is not in any of: {searched}. "
        "Install it there, or set ANSIBLE_COLLECTIONS_PATH to the path where collections are installed."
    )


def _places() -> Iterator[Path]:
    """Yield where the collection may be: around this file, in Python's path, and in Ansible's collection paths."""
    here = Path(__file__).resolve()
    if len(here.parents) > _DEPTH:
        yield here.parents[_DEPTH]
    with contextlib.suppress(ImportError, ValueError):  # ValueError: in sys.modules without a spec
        spec = importlib.util.find_spec(".".join(_COLLECTION.parts))
        yield from map(Path, spec.submodule_search_locations or () if spec is not None else ())
    home = os.environ.get("ANSIBLE_HOME") or "~/.ansible"
    usual = os.pathsep.join((f"{home}/collections", "/usr/share/ansible/collections"))
    for path in (os.environ.get("ANSIBLE_COLLECTIONS_PATH") or usual).split(os.pathsep):
        if path:
            yield Path(path).expanduser() / _COLLECTION


if __name__ == "__main__":

    class _PrintingQueue(asyncio.Queue):  # type: ignore[type-arg]  # not generic before Python 3.9
        """Stands in for the queue of ansible-rulebook."""

        async def put(self, item: Any) -> None:
            print(json.dumps(item), flush=True)

    # A script's shell starts background processes with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(_PrintingQueue(), {"uris": sys.argv[1:] or None}))

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules share: the options that name a guest, and the form of results. The only file here on Ansible."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from .agent import GuestAgent
from .errors import QgaError
from .options import Target, check_numbers, target_of

TARGET_SPEC: dict[str, dict[str, Any]] = {
    "domain": {"type": "str"},
    "uri": {"type": "str", "default": "qemu:///system"},
    "socket": {"type": "path"},
    "address": {"type": "str"},
    "vsock": {"type": "str"},
    "timeout": {"type": "float", "default": 5.0},
    "wait_timeout": {"type": "float", "default": 0.0},
}


@dataclass(frozen=True)
class Outcome:
    """What came of one guest: its entry in the results, and what is said beside it."""

    entry: dict[str, Any]
    changed: bool = False
    diff: dict[str, str] | None = None
    warnings: tuple[str, ...] = field(default=())
    error: QgaError | None = None


def run(module: AnsibleModule, prepare: Callable[[dict[str, Any]], Callable[[GuestAgent], Outcome]]) -> None:
    """Do one thing to the guest that the module's options name, and end the module.

    ``prepare`` checks the module's own options before the guest is touched, and returns what is done with its agent.
    """
    target: Target | None = None
    try:
        check_numbers(module.params)
        target = target_of(module.params)
        work = prepare(module.params)
        with target.open() as channel:
            agent = GuestAgent(channel, module.params["timeout"])
            if module.params["wait_timeout"] > 0:
                agent.wait(module.params["wait_timeout"])
            outcome = work(agent)
    except QgaError as error:
        outcome = Outcome({"error": error.as_dict()}, error=error)
    _end(module, target, outcome)


def _end(module: AnsibleModule, target: Target | None, outcome: Outcome) -> None:
    for warning in outcome.warnings:
        module.warn(warning if target is None else f"{target.name}: {warning}")
    result: dict[str, Any] = {"changed": outcome.changed}
    if target is not None:
        guest = {"name": target.name, **outcome.entry}
        result.update(guest=guest, guests=[guest])
    if outcome.diff is not None:
        result["diff"] = outcome.diff
    if outcome.error is not None:
        module.fail_json(msg=sentence(outcome.error), error=outcome.error.as_dict(), **result)
    else:
        module.exit_json(**result)


def sentence(error: QgaError) -> str:
    """The error for a reader: what was wrong and where, its code, and what to do."""
    message = error.message[:1].upper() + error.message[1:]
    return ("{} [{}]. {}".format(message.rstrip("."), error.code, error.hint)).rstrip()

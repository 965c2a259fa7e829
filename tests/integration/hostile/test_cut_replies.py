"""A connection that is closed after any byte of a reply, in the middle of a sync, an answer or a reading."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.fakes.faults import Piece
from tests.hostile.agent import Asked, HostileAgent, honestly
from tests.hostile.attacks import INFO, LIBVIRT, RESYNC
from tests.hostile.cases import MODULES, OTHER_STREAMS, UNIX
from tests.hostile.channels import reached
from tests.hostile.checks import general_faults
from tests.hostile.payloads import cut_after
from tests.hostile.workers import Workers
from tests.support.task_error import task_error

_AT_ONCE = 6
_GONE = frozenset(("not_connected",))

# Long replies repeat themselves in the middle; the step has no divisor in common with the length of an entry.
_STEP = 61
_EACH_AT_ENDS = 90

# The command, the module that reads it, and its options.
CUT: dict[str, tuple[str, dict[str, Any]]] = {
    "guest-sync-delimited": (RESYNC, {}),
    "guest-info": (RESYNC, {}),
    "guest-get-clock": (RESYNC, {}),
    "guest-update-time": (RESYNC, {}),
    "guest-get-osinfo": (INFO, {"gather_subset": ["os", "vcpus"]}),
}
_OF_LIBVIRT = {"guest-sync-delimited": "guest-sync"}
_EVERY_NTH = {UNIX: 1, LIBVIRT: 5, **dict.fromkeys(OTHER_STREAMS, 17)}


def cuts(command: str) -> list[int]:
    """Return the numbers of sent bytes of its reply. The reply is complete without its last byte, a newline."""
    request = json.dumps({"execute": command, "arguments": _ARGUMENTS.get(command, {})}).encode() + b"\n"
    size = len(b"".join(HostileAgent().received(request))) - 1  # type: ignore[arg-type]  # it does not pause
    ends = min(size, _EACH_AT_ENDS)
    return sorted({*range(ends), *range(ends, size, _STEP), *range(size - ends, size)})


# As long as real ones: a number of 53 bits, and a step of some seconds.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "guest-sync-delimited": {"id": 2**52},
    "guest-sync": {"id": 2**40},
    "guest-update-time": {"seconds": 3, "nanoseconds": 5, "relative": True},
}


@pytest.mark.parametrize("command", CUT)
@pytest.mark.parametrize("channel", _EVERY_NTH)
def test_a_truncated_reply_is_an_error(channel: str, command: str, workers: Workers) -> None:
    work, options = CUT[command]
    module, usual = MODULES[work]
    cut_command = _OF_LIBVIRT.get(command, command) if channel == LIBVIRT else command

    def faults_of(size: int) -> list[str]:
        cut = cut_after(size)

        def play(asked: Asked) -> Iterable[Piece]:
            return cut(asked) if asked.command == cut_command else honestly(asked)

        agent = HostileAgent(play)
        with reached(agent, channel, module, **usual, timeout=5.0, **options) as case:
            verdict = workers.run(case)
        found = list(general_faults(channel, module, verdict, {}, _GONE))
        # The command was executed, and the measurement after it needs an undisturbed connection.
        if task_error(verdict.result or {}) is None and work == RESYNC and command != "guest-update-time":
            found.append(f"it succeeded: {verdict.result}")
        return [f"after {size} bytes: {fault}" for fault in found]

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        sizes = cuts(cut_command)[:: _EVERY_NTH[channel]]
        assert [fault for faults in pool.map(faults_of, sizes) for fault in faults] == []

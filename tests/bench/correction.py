"""The residual offset and the duration of our module and of virsh, alternately on the same guest."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import libvirt

from tests.bench import Figures, Say
from tests.processes.ansible_run import run_tasks
from tests.support.correction import (
    MODULE,
    TASK,
    correct_by_module,
    correct_by_virsh,
    save_and_restore,
    suspend_and_resume,
)
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.session import restored_guests

# Plus up to a random second: virsh truncates to seconds, so its error depends on where in a second it is called, and
# hwclock, which waits for the start of a second, would otherwise synchronize the whole loop with the seconds.
ASLEEP_S = 1.3
NAPS = (suspend_and_resume,) * 7 + (save_and_restore,) * 3
# Guests that are restored together.
NAMES = tuple(f"qga-bench-{number}" for number in range(1, 5))
ROUNDS = 4

OURS, THEIRS = "qga_update_time", "virsh_domtime_now"


class Corrected(NamedTuple):
    """``left_ms`` is measured by the witness. ``is_honest``: it is within the uncertainty that the module reported."""

    left_ms: float
    seconds: float
    is_honest: bool = False


Way = Callable[[Guest], Corrected]


def bench_corrections(guest: Guest, say: Say) -> Figures:
    taken = _after_naps(guest, say, {OURS: _by_module, THEIRS: _by_virsh})
    medians_ms = {name: median(abs(each.left_ms) for each in corrected) for name, corrected in taken.items()}
    return {
        "residual_ms": {name: [each.left_ms for each in corrected] for name, corrected in taken.items()},
        "residual_ratio": medians_ms[THEIRS] / medians_ms[OURS],
        "correction_s": {name: [each.seconds for each in corrected] for name, corrected in taken.items()},
        "honest": sum(each.is_honest for each in taken[OURS]),
    }


def bench_extended_corrections(guest: Guest, say: Say) -> Figures:
    taken = _after_naps(guest, say, {OURS: functools.partial(_by_module, method="extended")})[OURS]
    return {
        "extended_residual_ms": [each.left_ms for each in taken],
        "extended_correction_s": [each.seconds for each in taken],
        "extended_honest": sum(each.is_honest for each in taken),
    }


def _after_naps(guest: Guest, say: Say, ways: Mapping[str, Way]) -> dict[str, list[Corrected]]:
    """Repeatedly pause the guest, and correct it in each way in turn."""
    taken: dict[str, list[Corrected]] = {name: [] for name in ways}
    for number, nap in enumerate(NAPS, 1):
        for name, correct in ways.items():
            nap(guest, ASLEEP_S + random.random())
            taken[name].append(correct(guest))
        left = ", ".join(f"{name} left {each[-1].left_ms:.3f} ms" for name, each in taken.items())
        say(f"{number} of {len(NAPS)}, {nap.__name__}: {left}")
    return taken


def _by_module(guest: Guest, **options: Any) -> Corrected:
    correction, entry = correct_by_module(guest, **options)
    left_ns = correction.after.offset_ns
    return Corrected(left_ns / 1e6, correction.seconds, _is_honest(entry, left_ns))


def _by_virsh(guest: Guest) -> Corrected:
    correction = correct_by_virsh(guest)
    return Corrected(correction.after.offset_ns / 1e6, correction.seconds)


def _is_honest(entry: Mapping[str, Any], left_ns: int) -> bool:
    return bool(abs(entry["offset_after_ns"] - left_ns) <= entry["uncertainty_after_ns"])


# -------------------------------------------------------------------------------------------- four guests, all restored


def bench_real_fleet(connection: libvirt.virConnect, say: Say) -> Figures:
    """Alternate between one task of ours and a loop of virsh domtime --now."""
    left_ms: dict[str, list[float]] = {OURS: [], THEIRS: []}
    seconds: dict[str, list[float]] = {OURS: [], THEIRS: []}
    honest = 0
    with restored_guests(connection, NAMES, say=say) as guests:
        for number in range(1, ROUNDS + 1):
            _restore(guests)
            run = run_tasks([{"name": TASK, MODULE: {"domains": list(NAMES)}}])
            if run.status != 0:
                raise VmError(f"The playbook failed:\n{run.output}")
            result = run.result(TASK)
            seconds[OURS].append(result["summary"]["duration_ns"] / 1e9)
            for guest, entry in zip(guests, result["guests"], strict=True):
                left_ns = guest.witness.offset().offset_ns
                left_ms[OURS].append(abs(left_ns) / 1e6)
                honest += _is_honest(entry, left_ns)
            _restore(guests)
            corrected = [_by_virsh(guest) for guest in guests]
            left_ms[THEIRS] += [abs(each.left_ms) for each in corrected]
            seconds[THEIRS].append(sum(each.seconds for each in corrected))
            took = ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items())
            say(f"{number} of {ROUNDS}, {len(guests)} restored guests: {took}")
    return {
        "real_fleet_residual_ms": left_ms,
        "real_fleet_s": seconds,
        "real_fleet_residual_ratio": median(left_ms[THEIRS]) / median(left_ms[OURS]),
        "real_fleet_honest": honest,
    }


def _restore(guests: Sequence[Guest]) -> None:
    for guest in guests:
        guest.managed_save()
    for guest in guests:
        guest.start()
    for guest in guests:
        guest.wait_for_agent()

"""Checks of a module's result with any agent: well-formed, typed, printable, in time, and true."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.fakes.clock import Clock
from tests.fakes.kinds import MILLISECOND_NS
from tests.hostile.agent import BEHIND_NS
from tests.hostile.attacks import LIBVIRT, RESYNC
from tests.hostile.case import Verdict
from tests.hostile.cases import Round, most_seconds
from tests.support.collection import ROOT
from tests.support.task_error import task_error

TOLERANCE_NS = 100 * MILLISECOND_NS

# The facts of one guest may be two million bytes of JSON.
_MOST_OF_A_RESULT = 3 * 1024 * 1024
# A path of 4096 characters, each of which may be replaced by its escape.
_LONGEST_TEXT = 4096 * 10 + 1
# A sentence quotes up to 200 characters of a guest, some of them several times.
_LONGEST_SENTENCE = 6000

# Limits of additional resident memory, in MiB. A message has up to 64 KiB with one module and 2 MiB with the other;
# libvirt-python creates texts of up to 4 MiB before they can be rejected.
MOST_MIB: Mapping[str, int] = {"qga_update_time": 10, "qga_info": 48}
MOST_MIB_BY_LIBVIRT = 24

# Allowance for a busy machine.
_SLOW_MACHINE = 2.0
_SLOW_MACHINE_SECONDS = 10.0


# Codes with a section in the troubleshooting guide, except the one for our own bugs.
_GUIDE = (ROOT / "docs/docsite/rst/troubleshooting.rst").read_text(encoding="utf-8")
DOCUMENTED = frozenset(re.findall(r"^``([a-z_]+)``\n-+$", _GUIDE, re.MULTILINE)) - {"internal_error"}


def faults(each: Round, clock: Clock, verdict: Verdict, honest: Mapping[str, Any]) -> Iterator[str]:
    """Yield the faults of a round's result. ``honest`` is the entry of an honest guest."""
    codes = each.attack.codes_by(each.channel)
    yield from general_faults(each.channel, each.module, verdict, honest, codes)
    longest = most_seconds(each) * _SLOW_MACHINE + _SLOW_MACHINE_SECONDS
    if verdict.seconds > longest:
        yield f"it took {verdict.seconds:.1f} s, limit {longest:.1f} s"
    if verdict.result is None:
        return
    entry = verdict.result.get("guest", {})
    is_success = task_error(verdict.result) is None and entry.keys() - {"name", "status", "errors"}
    if is_success and not each.attack.may_succeed and each.channel != LIBVIRT:
        yield f"it succeeded: {entry}"
    if each.attack.work == RESYNC and "offset_before_ns" in entry:
        yield from _wrong_figures(each, clock.offset_ns(), entry)


def general_faults(
    channel: str, module: str, verdict: Verdict, honest: Mapping[str, Any], codes: frozenset[str]
) -> Iterator[str]:
    """Yield the faults of any result. Values that an ``honest`` guest's entry has as well must have the same types;
    ``codes`` are the allowed error codes.
    """
    if verdict.noise:
        yield f"a traceback, or other output: {verdict.noise[-2000:]}"
    if verdict.threads_left or verdict.descriptors_left:
        yield f"leaked: {verdict.threads_left} {verdict.descriptors_left}"
    most = MOST_MIB[module] + (MOST_MIB_BY_LIBVIRT if channel == LIBVIRT else 0)
    if verdict.peak_kib > most * 1024:
        yield f"it used {verdict.peak_kib / 1024:.1f} MiB, limit {most} MiB"
    if verdict.result is None:
        yield "no result"
        return
    yield from _unfit(verdict.result)
    entry = verdict.result.get("guest", {})
    yield from mistyped(entry, honest)
    found = codes_of(verdict.result)
    if found - codes:
        yield f"codes {sorted(found)}, allowed {sorted(codes)}: {verdict.result.get('msg')} {entry.get('errors')}"
    if found - DOCUMENTED:
        yield f"undocumented codes {sorted(found - DOCUMENTED)}"
    error = task_error(verdict.result)
    is_error = error is not None
    if is_error != (entry.get("status") == "failed") or is_error != bool(verdict.result.get("failed")):
        yield f"status {entry.get('status')} and error {error}"


def codes_of(result: Mapping[str, Any]) -> set[str]:
    entry = result.get("guest", {})
    errors = [task_error(result), *entry.get("errors", {}).values()]
    return {error["code"] for error in errors if error is not None}


def _unfit(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield text that is not printable or too long."""
    size = len(json.dumps(result))
    if size > _MOST_OF_A_RESULT:
        yield f"a result of {size} bytes"
    # A diff has several lines, and contains only numbers.
    for text in _texts({name: member for name, member in result.items() if name != "diff"}):
        if not text.isprintable() or len(text) > _LONGEST_TEXT:
            yield f"a text of {len(text)} characters, or not printable: {text[:200]!r}"
    entry = result.get("guest", {})
    for error in (task_error(result), *entry.get("errors", {}).values()):
        if error is not None and (len(error["message"]) > _LONGEST_SENTENCE or not error["hint"]):
            yield f"an error of {len(error['message'])} characters, with the hint {error['hint']!r}"
    yield from (f"a long warning: {each[:200]}" for each in entry.get("warnings", ()) if len(each) > _LONGEST_SENTENCE)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in (*value, *value.values()) if isinstance(value, dict) else value:
            yield from _texts(item)


# ----------------------------------------------------------------------------------------------------------- the types

# Members with different types in different versions of the agent (qga/qapi-schema.json), and those that may be null.
_TEXT_OR_INTEGER = frozenset(("desprefixlen", "srcprefixlen", "driver_date"))
_MAY_BE_NULL = frozenset(("within_tolerance", "method", "block_size", "synchronized", "source", "slewable", "address"))
_MAY_BE_NULL |= {
    f"{name}{suffix}"
    for name in ("offset_after", "uncertainty_after", "max_error", "slewing")
    for suffix in ("", "_ns")
}


def mistyped(value: Any, honest: Any, where: str = "") -> Iterator[str]:
    """Yield the places whose type differs from an honest agent's value. Other members are not checked."""
    name = where.rpartition(".")[2]
    if (value is None and name in _MAY_BE_NULL) or honest is None:
        return
    if (name in _TEXT_OR_INTEGER and type(value) in (str, int)) or (
        isinstance(honest, float) and value.__class__ is int
    ):
        return
    if type(value) is not type(honest):
        yield f"{where} is {type(value).__name__}, not {type(honest).__name__}: {value!r:.100}"
    elif isinstance(value, dict):
        for key in value.keys() & honest.keys():
            yield from mistyped(value[key], honest[key], f"{where}.{key}")
    elif isinstance(value, list) and honest:
        for item in value:
            yield from mistyped(item, honest[0], where)


# --------------------------------------------------------------------------------------------------------- the figures


def _wrong_figures(each: Round, offset_ns: int, entry: Mapping[str, Any]) -> Iterator[str]:
    for when in ("before", "after"):
        offset, unsure = entry[f"offset_{when}_ns"], entry[f"uncertainty_{when}_ns"]
        if (offset is None) != (unsure is None) or (unsure is not None and unsure < 0):
            yield f"{when}: {offset} within {unsure}"
    if entry["round_trip_ns"] < 0 or entry["resolution_ns"] < 0 or entry["attempts"] > each.options["attempts"]:
        yield f"figures out of range: {entry}"
    # libvirt takes the next line as the reply (qemuAgentIOProcessLine). So a guest that sends more than one line can
    # choose its answer, which may be false.
    if not each.attack.is_truthful or (each.channel == LIBVIRT and each.attack.family == "around"):
        return
    before, after = entry["offset_before_ns"], entry["offset_after_ns"]
    if not _is_near(before, BEHIND_NS, entry["uncertainty_before_ns"]):
        yield f"it was {BEHIND_NS} ns off; reported: {before} within {entry['uncertainty_before_ns']}"
    if after is not None and not _is_near(after, offset_ns, entry["uncertainty_after_ns"]):
        yield f"it is {offset_ns} ns off; reported: {after} within {entry['uncertainty_after_ns']}"
    if entry["within_tolerance"] and not _is_near(0, offset_ns, TOLERANCE_NS):
        yield f"it is {offset_ns} ns off; reported: right"


def _is_near(claimed_ns: int, true_ns: int, unsure_ns: int) -> bool:
    """Return whether both agree. They use different clocks of this machine, which may drift apart by slewing."""
    return abs(claimed_ns - true_ns) <= unsure_ns + MILLISECOND_NS

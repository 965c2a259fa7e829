"""The service's memory when guests send long replies through libvirt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.fleet import Profile
from tests.support.resync_service import ServiceProcess
from tests.support.tiers import quick

CONFIG = "[watch]\nlook_at_start = no\n[resync]\ntimeout = 60\n"
SECONDS = 300.0  # on processors that other tests use as well

# These include the interpreter and the simulated hypervisor.
MOST_KIB = 100 * 1024
MOST_LEFT_KIB = 80 * 1024
# For a reply that the C library keeps, and pages that the interpreter has allocated.
MOST_GROWN_KIB = 32 * 1024

WAYS = ("a reply", "not JSON", "a reply that is not UTF-8", "a refusal")


@pytest.mark.parametrize("what", quick(WAYS, ("a reply",)))
def test_long_replies_do_not_accumulate_in_memory(tmp_path: Path, what: str) -> None:
    names = [f"web{number}" for number in range(50)]
    profiles = dict.fromkeys(names, Profile(offset_ns=-20_000_000_000))
    with ServiceProcess(tmp_path, CONFIG, profiles) as service:
        service.wait_for("watching")
        for name in names:
            service.ask("answer_at_length", name, what)
        service.ask("resume", names)
        records = service.wait_for("resync", len(names), SECONDS)
        assert {record.fields["guest"] for record in records} == set(names)
        before_kib = service.resident_kib()
        assert before_kib < MOST_LEFT_KIB
        for number in range(1, 151):
            service.ask("pause", names[:1])
            service.ask("resume", names[:1])
            records = service.wait_for("resync", len(names) + number, SECONDS)
        peak_kib, after_kib = service.peak_kib(), service.resident_kib()
    assert {record.fields["result"] for record in records} == {"failed"}
    assert {record.fields["error"] for record in records} <= {"protocol_error", "command_failed"}
    assert peak_kib < MOST_KIB
    assert after_kib - before_kib < MOST_GROWN_KIB

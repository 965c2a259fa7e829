"""A host that comes back with all of its guests: the service as a process, and 200 of them in the same second."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.fleet import named, profiles
from tests.support.logfmt import Line
from tests.support.resync_service import ServiceProcess
from tests.support.until import until

COUNT = 200
SEED = 20261124
SECONDS = 60.0
TOLERANCE_NS = 100_000_000
LEAST_OFF_NS = 900_000_000
STEP = "guest-update-time"
ALL_CORRECTED = f'qga_resync_total{{cause="restored",result="corrected",code=""}} {COUNT}\n'


def test_200_guests_that_are_restored_in_the_same_second_are_all_corrected_each_exactly_once(tmp_path: Path) -> None:
    metrics = tmp_path / "qga.prom"
    config = f"[watch]\nlook_at_start = no\n[metrics]\nfile = {metrics}\n"
    fleet = named(profiles(COUNT, SEED))
    with ServiceProcess(tmp_path, config, fleet) as service:
        service.wait_for("watching")
        before = service.ask("truths")
        assert all(abs(offset) > LEAST_OFF_NS for offset in before.values())
        service.ask("restore", list(fleet))
        lines = service.wait_for("resync", COUNT, SECONDS)
        # They are written a while behind the last of them: what would be told twice has been told by then.
        until(lambda: metrics.exists() and ALL_CORRECTED in metrics.read_text(), "not all of them are in the metrics")
        assert {(line.fields["cause"], line.fields["result"]) for line in lines} == {("restored", "corrected")}
        assert Counter(line.fields["guest"] for line in lines) == dict.fromkeys(fleet, 1)
        truths = service.ask("truths")
        asked = service.ask("received")
        assert service.stop() == 0
        assert len(service.lines("resync")) == COUNT
    assert max(map(abs, truths.values())) <= TOLERANCE_NS
    assert all(commands[STEP] == int(_of(lines, name)["attempts"]) for name, commands in asked.items())
    samples = {
        (sample.name, sample.labels.get("result")): sample.value
        for family in text_string_to_metric_families(metrics.read_text())
        for sample in family.samples
        if "le" not in sample.labels
    }
    assert samples["qga_resync_total", "corrected"] == COUNT
    assert samples["qga_resync_resume_to_corrected_seconds_count", None] == COUNT
    assert samples["qga_resync_in_progress", None] == 0


def _of(lines: list[Line], name: str) -> dict[str, str]:
    (found,) = (line.fields for line in lines if line.fields["guest"] == name)
    return found

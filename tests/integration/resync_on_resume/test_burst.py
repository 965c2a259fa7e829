"""200 guests are restored in the same second, with the service as a process."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.fakes.fleet import named, profiles
from tests.support.resync_service import ServiceProcess
from tests.support.until import until

COUNT = 200
SEED = 20261124
TOLERANCE_NS = 100_000_000
LEAST_OFF_NS = 900_000_000
ALL_CORRECTED = f'qga_resync_total{{cause="restored",result="corrected",code=""}} {COUNT}\n'


def test_200_guests_restored_in_the_same_second_are_each_corrected_once(tmp_path: Path) -> None:
    metrics = tmp_path / "qga.prom"
    config = f"[watch]\nlook_at_start = no\n[metrics]\nfile = {metrics}\n"
    fleet = named(profiles(COUNT, SEED))
    with ServiceProcess(tmp_path, config, fleet) as service:
        service.wait_for("watching")
        assert min(map(abs, service.ask("truths").values())) > LEAST_OFF_NS
        service.ask("restore", list(fleet))
        service.wait_for("resync", COUNT)
        # The metrics are written a while after the last resync: a duplicate would have been logged by then.
        until(lambda: metrics.exists() and ALL_CORRECTED in metrics.read_text(), "not all guests are in the metrics")
        truths, asked = service.ask("truths"), service.ask("received")
        assert service.stop() == 0
        lines = [line.fields for line in service.lines("resync")]
    assert max(map(abs, truths.values())) <= TOLERANCE_NS
    assert sorted((line["guest"], line["cause"], line["result"]) for line in lines) == sorted(
        (name, "restored", "corrected") for name in fleet
    )
    attempts = {line["guest"]: int(line["attempts"]) for line in lines}
    assert {name: commands["guest-update-time"] for name, commands in asked.items()} == attempts
    samples = {
        (sample.name, sample.labels.get("result")): sample.value
        for family in text_string_to_metric_families(metrics.read_text())
        for sample in family.samples
        if "le" not in sample.labels
    }
    assert samples["qga_resync_total", "corrected"] == COUNT
    assert samples["qga_resync_resume_to_corrected_seconds_count", None] == COUNT
    assert samples["qga_resync_in_progress", None] == 0

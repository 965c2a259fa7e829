"""The playbooks when their files cannot be written: clocks are corrected, and the run reports the files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.processes.ansible_run import CORES, PlaybookRun, run_playbook_of_collection
from tests.support.fleet_results import without_host_clocks
from tests.support.small_disk import SmallDisk, may_be_mounted

BEHIND_NS = -3 * SECOND_NS
NEAR_NS = SECOND_NS // 10
GUESTS = [f"{hypervisor}/web{number}" for hypervisor in ("hv1", "hv2") for number in (1, 2)]
*OLDER, NEWEST = CORES
NO_ROOM = "No space left on device"
OLD = "the report of yesterday\n"

on_small_disk = pytest.mark.skipif(not may_be_mounted(), reason="this user may not mount file systems")

ONE_HYPERVISOR = ("--limit", "hv1")
# Modules run faster with it.
ENVIRONMENT = {"ANSIBLE_PIPELINING": "1"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFleet]:
    profiles = {name: Profile(offset_ns=BEHIND_NS) for name in GUESTS}
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), profiles) as running:
        yield running


@pytest.fixture(autouse=True)
def _behind(fleet: SimulatedFleet) -> None:
    fleet.shift({name: BEHIND_NS - offset_ns for name, offset_ns in fleet.truths().items()})


@pytest.fixture(scope="module")
def inventory(fleet: SimulatedFleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    hosts = {
        name: {"qga_sockets": [str(Path(fleet.path(f"{name}/web1")).with_name("*.qga"))]} for name in ("hv1", "hv2")
    }
    file = tmp_path_factory.mktemp("inventory") / "hypervisors.yml"
    file.write_text(yaml.safe_dump({"hypervisors": {"hosts": hosts}}), encoding="utf-8")
    return file


def complaints(run: PlaybookRun) -> list[str]:
    """Return the messages on files that could not be written, sorted."""
    names = ("Report why the file was not written", "Report why the facts were not written")
    return sorted(task.result["msg"] for task in run.tasks if task.task in names)


def table(run: PlaybookRun) -> list[str]:
    return without_host_clocks(run.result("Summarize")["msg"])


def content(path: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in path.iterdir()}


def resync(report: Path, inventory: Path, *arguments: str, **how: object) -> PlaybookRun:
    return run_playbook_of_collection(
        "resync_fleet", "-e", f"qga_report={report}", *arguments, inventory=inventory, environment=ENVIRONMENT, **how
    )


def only_the_report_is_missing(run: PlaybookRun, report: Path, why: str, fleet: SimulatedFleet) -> None:
    assert complaints(run) == [f"The report could not be written to '{report}': {why}."], run.output
    assert run.status == 2
    *hypervisors, total = (line.split()[:3] for line in table(run)[2:])
    assert hypervisors == [[name, "2", "2"] for name, _guests, _corrected in hypervisors]
    are_right = [name for name, offset_ns in fleet.truths().items() if abs(offset_ns) < NEAR_NS]
    assert total == ["total", str(len(are_right)), str(len(are_right))]
    assert are_right


@on_small_disk
@pytest.mark.parametrize("core", [NEWEST, *(pytest.param(core, marks=pytest.mark.thorough) for core in OLDER)])
def test_a_full_disk_keeps_the_old_report(core: str, fleet: SimulatedFleet, inventory: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    with SmallDisk(tmp_path, 16) as disk:
        (disk.content / report.name).write_text(OLD, encoding="utf-8")
        run = resync(report, inventory, core=core, within=disk.within)
        only_the_report_is_missing(run, report, NO_ROOM, fleet)
        assert content(disk.content) == {report.name: OLD}
        disk.remount("size=4m")
        run = resync(report, inventory, core=core, within=disk.within)
        assert run.status == 0, run.output
        written, data = (content(disk.content)[name] for name in ("report.html", "report.json"))
        assert len(content(disk.content)) == 2
    assert "All 4 guests are within tolerance." in written
    assert written.endswith("</html>\n")
    assert len(json.loads(data)["guests"]) == 4


def test_data_that_cannot_be_written_is_reported_after_the_page_is_written(
    fleet: SimulatedFleet, inventory: Path, tmp_path: Path
) -> None:
    report, data = tmp_path / "report.html", tmp_path / "report.json"
    data.mkdir()
    run = resync(report, inventory, *ONE_HYPERVISOR)
    only_the_report_is_missing(run, data, "it is a directory", fleet)
    assert report.read_text(encoding="utf-8").endswith("</html>\n")


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ("missing/report.html", "Destination directory {0}/missing does not exist"),
        pytest.param("file/report.html", "Not a directory", marks=pytest.mark.thorough),
        pytest.param("directory", "it is a directory", marks=pytest.mark.thorough),
    ],
)
def test_the_reason_why_the_report_was_not_written_is_reported(
    report: str, why: str, fleet: SimulatedFleet, inventory: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text(OLD, encoding="utf-8")
    (tmp_path / "directory").mkdir()
    only_the_report_is_missing(
        resync(tmp_path / report, inventory, *ONE_HYPERVISOR), tmp_path / report, why.format(tmp_path), fleet
    )
    assert (tmp_path / "file").read_text(encoding="utf-8") == OLD
    assert list((tmp_path / "directory").iterdir()) == []


def gather(directory: Path, inventory: Path, **how: object) -> PlaybookRun:
    return run_playbook_of_collection(
        "gather_facts", "-e", f"qga_directory={directory}", inventory=inventory, environment=ENVIRONMENT, **how
    )


def only_these_files_are_missing(run: PlaybookRun, whys: dict[Path, str]) -> None:
    assert complaints(run) == [f"The facts could not be written to '{path}': {why}." for path, why in whys.items()]
    assert run.status == 2, run.output
    (last,) = (line for line in table(run) if line.startswith("The files are in "))
    assert re.findall(r"(\w+\.json)", last) == [path.name for path in whys]
    assert [line.split()[:3] for line in table(run)[2:4]] == [["hv1", "2", "2"], ["hv2", "2", "2"]]


@pytest.mark.thorough
@on_small_disk
def test_a_full_disk_keeps_old_facts(inventory: Path, tmp_path: Path) -> None:
    with SmallDisk(tmp_path, 4) as disk:
        (disk.content / "hv1.json").write_text(OLD, encoding="utf-8")
        run = gather(tmp_path, inventory, within=disk.within)
        only_these_files_are_missing(run, {tmp_path / name: NO_ROOM for name in ("hv1.json", "hv2.json")})
        assert content(disk.content) == {"hv1.json": OLD}
        disk.remount("size=4m")
        run = gather(tmp_path, inventory, within=disk.within)
        assert run.status == 0, run.output
        facts = {name: json.loads(text) for name, text in content(disk.content).items()}
    assert {name: len(each["guests"]) for name, each in facts.items()} == {"hv1.json": 2, "hv2.json": 2}


@pytest.mark.thorough
def test_a_file_that_cannot_be_written_does_not_affect_others(inventory: Path, tmp_path: Path) -> None:
    (tmp_path / "hv1.json").mkdir()
    only_these_files_are_missing(gather(tmp_path, inventory), {tmp_path / "hv1.json": "it is a directory"})
    assert len(json.loads((tmp_path / "hv2.json").read_text(encoding="utf-8"))["guests"]) == 2


def test_a_directory_that_cannot_be_created_is_reported_for_each_file(inventory: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text(OLD, encoding="utf-8")
    why = f"{file} already exists as a file"
    only_these_files_are_missing(gather(file, inventory), {file / name: why for name in ("hv1.json", "hv2.json")})
    assert content(tmp_path) == {"file": OLD}

"""The playbooks for fleets as a user runs them: the installed collection, four hypervisors, simulated guests.

All hypervisors are this machine, with sockets of their own each; one cannot be reached, and one has no libvirt. A
playbook run costs seconds, so the tests share a few.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.processes.ansible_run import PlaybookRun, every_core, run_playbook_of_collection

BEHIND_NS = -3 * SECOND_NS
NEAR_NS = SECOND_NS // 10  # the tolerance
# What guests are called is not to be taken for a template, and what hypervisors are called not for a way out.
ODD = "hv2/{{ 6 * 7 }}"
ESCAPING = "../hv2"
PROFILES = {
    **{f"hv1/web{number}": Profile(offset_ns=BEHIND_NS) for number in range(1, 6)},
    "hv1/dead": Profile(fault="silent"),
    "hv1/gone": Profile(fault="refuses"),
    "hv1/leave-me": Profile(offset_ns=BEHIND_NS),
    "hv2/db1": Profile(kind="stock", offset_ns=BEHIND_NS),
    ODD: Profile(offset_ns=BEHIND_NS),
}
WORKED_ON = [name for name in PROFILES if name not in ("hv1/dead", "hv1/gone", "hv1/leave-me")]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedFleet]:
    with SimulatedFleet(tmp_path_factory.mktemp("fleet"), PROFILES) as running:
        yield running


@pytest.fixture(scope="module")
def inventory(fleet: SimulatedFleet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def sockets(name: str) -> list[str]:
        return [str(Path(fleet.path(name)).with_name("*.qga"))]

    hosts: dict[str, dict[str, Any]] = {
        "hv1": {"qga_sockets": sockets("hv1/dead"), "qga_exclude": ["leave-*"]},
        ESCAPING: {"qga_sockets": sockets(ODD)},
        # Ansible takes it for unreachable, since it can put nothing there.
        "lost": {"ansible_remote_tmp": "/proc/nonesuch"},
        "bare": {"qga_uri": "qemu+unix:///system?socket=/nonexistent"},
    }
    file = tmp_path_factory.mktemp("inventory") / "hypervisors.yml"
    file.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"qga_timeout": 0.5}}}), encoding="utf-8")
    return file


def table(run: PlaybookRun) -> dict[str, list[str]]:
    """The rows of the summary by the hypervisor's name, and the lines below it in the row of the empty name."""
    lines: list[str] = run.result("Tell what came of it")["msg"]
    end = next(number for number, line in enumerate(lines) if line.startswith("total "))
    return {**{line.split()[0]: line.split()[1:] for line in lines[2 : end + 1]}, "": lines[end + 1 :]}


def failed_hosts(run: PlaybookRun) -> set[str]:
    return set(re.findall(r"^(\S+) +: .* failed=[1-9]", run.output, re.MULTILINE))


def is_near(offset_ns: int, truth_ns: int) -> bool:
    return abs(offset_ns - truth_ns) < NEAR_NS


# --------------------------------------------------------------------------------------------------------- resync_fleet


class Resynced(NamedTuple):
    run: PlaybookRun
    report: str


@pytest.fixture(scope="module")
def checked(fleet: SimulatedFleet, inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Resynced:
    """In check mode."""
    directory = tmp_path_factory.mktemp("checked")
    run = run_playbook_of_collection("resync_fleet", "--check", inventory=inventory, directory=directory)
    assert all(is_near(truth, PROFILES[name].offset_ns) for name, truth in fleet.truths().items())
    return Resynced(run, (directory / "resync_fleet.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def resynced(
    checked: Resynced,  # noqa: ARG001  # it comes first
    inventory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Resynced:
    """In batches of three."""
    report = tmp_path_factory.mktemp("resynced") / "report.html"
    options = ("-e", "qga_batch_size=3", "-e", f"qga_report={report}")
    run = run_playbook_of_collection("resync_fleet", *options, inventory=inventory)
    return Resynced(run, report.read_text(encoding="utf-8"))


def test_check_mode_reports_what_it_would_do(checked: Resynced) -> None:
    assert checked.run.status == 2, checked.run.output
    assert table(checked.run)["total"][:5] == ["9", "7", "0", "1", "1"]
    assert "Check mode." in checked.report
    assert "web1.qga" in checked.report


def test_clocks_are_set_right_and_others_left_alone(resynced: Resynced, fleet: SimulatedFleet) -> None:
    truths, received = fleet.truths(), fleet.received()
    assert all(is_near(truths[name], 0) for name in WORKED_ON), resynced.run.output
    assert is_near(truths["hv1/leave-me"], BEHIND_NS)
    assert not any(received["hv1/leave-me"].values())


def test_each_batch_has_its_line(resynced: Resynced) -> None:
    found = re.findall(r"^(?:ok|changed): \[hv1\] => \(item=(.*)\)$", resynced.run.output, re.MULTILINE)
    assert found == ["batch 1 of 3: guests 1 to 3", "batch 2 of 3: guests 4 to 6", "batch 3 of 3: guests 7 to 7"]
    assert f"changed: [{ESCAPING}] => (item=all 2 guests)" in resynced.run.output


def test_the_summary_has_every_hypervisor_and_those_with_failures_fail_the_run(resynced: Resynced) -> None:
    rows = table(resynced.run)
    assert rows["hv1"][:5] == ["7", "5", "0", "1", "1"]
    assert rows[ESCAPING][:5] == ["2", "2", "0", "0", "0"]
    assert "unreachable:" in rows["lost"]
    assert "hypervisor_unavailable:" in rows["bare"]
    (failure,) = rows[""]
    assert failure.startswith("hv1: ")
    assert "dead.qga: unresponsive: " in failure
    assert resynced.run.status == 2
    assert failed_hosts(resynced.run) == {"hv1", "lost", "bare"}
    assert '"msg": "1 of 7 guests failed."' in resynced.run.output
    assert "Traceback" not in resynced.run.output


def test_the_report_has_every_guest_that_was_selected(resynced: Resynced) -> None:
    for name in ("web1", "web5", "dead", "gone", "db1", "&#123;&#123; 6 * 7 }}", "lost", "bare"):
        assert name in resynced.report
    assert "leave-me" not in resynced.report
    assert "42.qga" not in resynced.report


@pytest.mark.parametrize(
    ("fail_on", "hosts", "failed"),
    [
        ("all", "hv1,bare", {"bare"}),
        pytest.param("none", "hv1,bare,lost", set(), marks=pytest.mark.thorough),
    ],
)
def test_the_exit_status_depends_on_fail_on(
    fail_on: str, hosts: str, failed: set[str], inventory: Path, tmp_path: Path
) -> None:
    run = run_playbook_of_collection(
        *("resync_fleet", "--check", "-e", f"qga_fail_on={fail_on}", "-e", f"qga_hosts={hosts}", "-e", "qga_report="),
        inventory=inventory,
        directory=tmp_path,
    )
    assert failed_hosts(run) == failed, run.output
    assert run.status == (2 if failed else 0)
    assert list(tmp_path.iterdir()) == []


def test_clocks_that_are_not_proven_right_are_failures_and_the_report_says_so(tmp_path: Path) -> None:
    slow = {"forward_seconds": 0.2, "backward_seconds": 0.1}
    profiles = {
        "hv1/slow": Profile(offset_ns=BEHIND_NS, **slow),
        "hv1/slow-and-right": Profile(**slow),
        "hv1/right": Profile(offset_ns=BEHIND_NS),
    }
    with SimulatedFleet(tmp_path / "fleet", profiles) as fleet:
        sockets = str(Path(fleet.path("hv1/slow")).with_name("*.qga"))
        options = json.dumps({"qga_sockets": [sockets], "qga_timeout": 1})
        run = run_playbook_of_collection("resync_fleet", "-e", options, inventory="hv1,", directory=tmp_path)
    assert run.status == 2, run.output
    assert table(run)["hv1"][:5] == ["3", "1", "0", "0", "2"]
    *failures, unproven = table(run)[""]
    assert [failure.split(": ")[2] for failure in failures] == ["not_converged"] * 2
    assert unproven == "2 clocks are not proven right."
    written = (tmp_path / "resync_fleet.html").read_text(encoding="utf-8")
    assert unproven in written
    assert written.count('<td class="off">unproven</td>') == 2


def test_a_run_that_finds_no_guest_fails(tmp_path: Path) -> None:
    run = run_playbook_of_collection(
        "resync_fleet", "-e", "qga_sockets=/nonexistent/*.qga", inventory="hv1,hv2", directory=tmp_path
    )
    assert run.status == 2, run.output
    assert table(run)["(nowhere)"][:5] == ["0", "0", "0", "0", "0"]
    assert "no guest was found at all [not_found]." in run.output


@pytest.mark.parametrize(
    ("variable", "says"),
    [
        ("qga_fail_on=some", "qga_fail_on has to be any, all or none, and is some"),
        ("qga_batch_size=many", "qga_batch_size has to be a number of guests, and is many"),
        ("qga_tolerance=-1", "tolerance is -1.0 s"),
        ("qga_domains=web1", "more than one target given: domains, sockets [invalid_option]"),
    ],
)
def test_a_wrong_variable_is_refused_in_a_sentence(variable: str, says: str, inventory: Path, tmp_path: Path) -> None:
    run = run_playbook_of_collection(
        *("resync_fleet", "-e", variable, "--check", "--limit", ESCAPING), inventory=inventory, directory=tmp_path
    )
    assert run.status == 2, run.output
    assert says in run.output
    assert "Traceback" not in run.output


# ---------------------------------------------------------------------------------------------------------------- modes


def modes_in(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in sorted(directory.rglob("*"))
    }


@every_core
@pytest.mark.parametrize(("directory_mode", "mode"), [(0o700, 0o600), (0o2770, 0o664), (0o750, 0o440)])
def test_reports_and_files_of_facts_that_are_there_and_their_directory_keep_their_modes(
    core: str, directory_mode: int, mode: int, inventory: Path, tmp_path: Path
) -> None:
    report, facts = tmp_path / "resync_fleet.html", tmp_path / "guest_facts" / "hv1.json"
    facts.parent.mkdir()
    facts.parent.chmod(directory_mode)
    for file in (report, facts):
        file.write_text("{}")
        file.chmod(mode)
    for command in (["gather_facts"], ["resync_fleet", "--check"]):
        run_playbook_of_collection(*command, "--limit", "hv1", inventory=inventory, directory=tmp_path, core=core)
    assert "guests" in json.loads(facts.read_text(encoding="utf-8"))
    assert "Check mode." in report.read_text(encoding="utf-8")
    kept = {"guest_facts": directory_mode, "guest_facts/hv1.json": mode, "resync_fleet.html": mode}
    assert modes_in(tmp_path) == kept


@every_core
def test_files_and_directories_that_the_playbooks_create_have_a_mode_of_their_own(
    core: str, inventory: Path, tmp_path: Path
) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    for command in (
        ["gather_facts", "-e", "qga_directory=private/new/facts"],
        ["resync_fleet", "--check", "-e", "qga_report=private/new.html"],
    ):
        run_playbook_of_collection(*command, "--limit", "hv1", inventory=inventory, directory=tmp_path, core=core)
    assert modes_in(tmp_path) == {
        "private": 0o700,
        "private/new": 0o755,
        "private/new/facts": 0o755,
        "private/new/facts/hv1.json": 0o640,
        "private/new.html": 0o644,
    }


# --------------------------------------------------------------------------------------------------------- gather_facts


class Gathered(NamedTuple):
    """What came of it in check mode, then twice for real."""

    directory: Path
    check: PlaybookRun
    first: PlaybookRun
    second: PlaybookRun


@pytest.fixture(scope="module")
def gathered(inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    directory = tmp_path_factory.mktemp("gathered")
    subset = ("-e", '{"qga_gather_subset": ["min", "network"]}')

    def run(*arguments: str) -> tuple[PlaybookRun, dict[str, bytes]]:
        run = run_playbook_of_collection("gather_facts", *subset, *arguments, inventory=inventory, directory=directory)
        return run, {path.name: path.read_bytes() for path in directory.glob("guest_facts/*")}

    check, nothing = run("--check")
    assert list(directory.iterdir()) == list(nothing) == []
    (first, contents), (second, again) = run(), run()
    assert again == contents
    return Gathered(directory / "guest_facts", check, first, second)


def test_each_hypervisor_has_a_file_and_gathering_twice_changes_nothing(gathered: Gathered) -> None:
    changes = [re.findall(r" changed=([1-9]\d*) ", run.output) for run in gathered[1:]]
    assert changes == [["1"], ["2", "1"], []]
    assert sorted(path.name for path in gathered.directory.iterdir()) == ["..%2Fhv2.json", "hv1.json"]
    assert [path.name for path in gathered.directory.parent.iterdir()] == ["guest_facts"]


def test_the_facts_are_of_every_guest_in_order(gathered: Gathered, fleet: SimulatedFleet) -> None:
    text = (gathered.directory / "hv1.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=4, sort_keys=True) + "\n"
    names = [entry["name"] for entry in content["guests"]]
    assert names == sorted(fleet.path(name) for name in PROFILES if name.startswith("hv1/") and name != "hv1/leave-me")
    entries = {Path(entry["name"]).stem: entry for entry in content["guests"]}
    assert entries["web1"]["os"]["id"] == "debian"
    assert "time" not in entries["web1"]
    assert entries["dead"]["error"]["code"] == "unresponsive"
    assert entries["gone"]["reason"]["code"] == "not_connected"
    odd = json.loads((gathered.directory / "..%2Fhv2.json").read_text(encoding="utf-8"))["guests"]
    assert [(Path(entry["name"]).stem, entry["status"]) for entry in odd] == [
        ("db1", "gathered"),
        (r"\x7b{ 6 * 7 }}", "gathered"),
    ]


def test_the_summary_of_facts(gathered: Gathered) -> None:
    found, checked = table(gathered.first), table(gathered.check)
    assert found["hv1"] == ["7", "5", "1", "1"]
    assert found["total"] == ["9", "7", "1", "1"]
    assert "unreachable:" in found["lost"]
    assert found[""][-1] == f"The files are in {gathered.directory}."
    assert checked[""][-1] == "No file was written, since this is check mode."
    assert gathered.first.status == gathered.check.status == 2
    assert failed_hosts(gathered.first) == {"hv1", "lost", "bare"}

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
from typing import Any

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


@pytest.fixture(scope="module")
def checked(
    fleet: SimulatedFleet, inventory: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[PlaybookRun, str]:
    """A run in check mode, and its report."""
    directory = tmp_path_factory.mktemp("checked")
    run = run_playbook_of_collection("resync_fleet", "--check", inventory=inventory, directory=directory)
    assert all(is_near(truth, PROFILES[name].offset_ns) for name, truth in fleet.truths().items())
    return run, (directory / "resync_fleet.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def resynced(
    checked: tuple[PlaybookRun, str],  # noqa: ARG001  # it comes first
    inventory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[PlaybookRun, str]:
    """The real thing, in batches of three, and its report."""
    report = tmp_path_factory.mktemp("resynced") / "report.html"
    run = run_playbook_of_collection(
        "resync_fleet", "-e", "qga_batch_size=3", "-e", f"qga_report={report}", inventory=inventory
    )
    return run, report.read_text(encoding="utf-8")


def test_check_mode_tells_what_it_would_do_and_reports_it(checked: tuple[PlaybookRun, str]) -> None:
    run, report = checked
    assert run.status == 2, run.output
    assert table(run)["total"][:5] == ["9", "7", "0", "1", "1"]
    assert "Check mode." in report
    assert "web1.qga" in report


def test_clocks_are_set_right_and_others_left_alone(resynced: tuple[PlaybookRun, str], fleet: SimulatedFleet) -> None:
    truths, received = fleet.truths(), fleet.received()
    assert all(is_near(truths[name], 0) for name in WORKED_ON), resynced[0].output
    assert is_near(truths["hv1/leave-me"], BEHIND_NS)
    assert not any(received["hv1/leave-me"].values())


def test_each_batch_has_its_line(resynced: tuple[PlaybookRun, str]) -> None:
    found = re.findall(r"^(?:ok|changed): \[hv1\] => \(item=(.*)\)$", resynced[0].output, re.MULTILINE)
    assert found == [
        "batch 1 of 3: guests 1 to 3",
        "batch 2 of 3: guests 4 to 6",
        "batch 3 of 3: guests 7 to 7",
    ]
    assert f"changed: [{ESCAPING}] => (item=all 2 guests)" in resynced[0].output


def test_the_summary_has_every_hypervisor_and_every_failure(resynced: tuple[PlaybookRun, str]) -> None:
    rows = table(resynced[0])
    assert rows["hv1"][:5] == ["7", "5", "0", "1", "1"]
    assert rows[ESCAPING][:5] == ["2", "2", "0", "0", "0"]
    assert "unreachable:" in rows["lost"]
    assert "hypervisor_unavailable:" in rows["bare"]
    (failure,) = rows[""]
    assert failure.startswith("hv1: ")
    assert "dead.qga: unresponsive: " in failure


def test_the_report_has_every_guest_that_was_meant(resynced: tuple[PlaybookRun, str]) -> None:
    report = resynced[1]
    for name in ("web1", "web5", "dead", "gone", "db1", "&#123;&#123; 6 * 7 }}", "lost", "bare"):
        assert name in report
    assert "leave-me" not in report
    assert "42.qga" not in report


def test_a_hypervisor_with_failures_fails_the_run_and_no_other_does(resynced: tuple[PlaybookRun, str]) -> None:
    run = resynced[0]
    assert run.status == 2
    assert failed_hosts(run) == {"hv1", "lost", "bare"}
    assert '"msg": "1 of 7 guests failed."' in run.output
    assert "Traceback" not in run.output


@pytest.mark.parametrize(
    ("fail_on", "hosts", "failed"),
    [
        ("all", "hv1,bare", {"bare"}),
        pytest.param("all", "hv1", set(), marks=pytest.mark.thorough),
        pytest.param("none", "hv1,bare,lost", set(), marks=pytest.mark.thorough),
    ],
)
def test_the_exit_status_is_what_fail_on_says(
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
    report = tmp_path / "report.html"
    with SimulatedFleet(tmp_path / "fleet", profiles) as fleet:
        sockets = str(Path(fleet.path("hv1/slow")).with_name("*.qga"))
        run = run_playbook_of_collection(
            *("resync_fleet", "-e", json.dumps({"qga_sockets": [sockets], "qga_timeout": 1})),
            *("-e", f"qga_report={report}"),
            inventory="hv1,",
        )
    assert run.status == 2, run.output
    assert table(run)["hv1"][:5] == ["3", "1", "0", "0", "2"]
    *failures, unproven = table(run)[""]
    assert [failure.split(": ")[2] for failure in failures] == ["not_converged"] * 2
    assert unproven == "2 clocks are not proven right."
    written = report.read_text(encoding="utf-8")
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
        ("qga_domains=web1", "several options name guests: domains, sockets [invalid_option]"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_said(variable: str, says: str, inventory: Path, tmp_path: Path) -> None:
    run = run_playbook_of_collection(
        *("resync_fleet", "-e", variable, "--check", "--limit", ESCAPING), inventory=inventory, directory=tmp_path
    )
    assert run.status == 2, run.output
    assert says in run.output
    assert "Traceback" not in run.output


# ---------------------------------------------------------------------------------------------------------------- modes


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@every_core
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o440])
def test_a_report_that_is_there_keeps_its_mode(core: str, mode: int, inventory: Path, tmp_path: Path) -> None:
    report = tmp_path / "resync_fleet.html"
    report.write_text("an older one")
    report.chmod(mode)
    run = run_playbook_of_collection(
        *("resync_fleet", "--check", "--limit", "hv1"), inventory=inventory, directory=tmp_path, core=core
    )
    assert "Check mode." in report.read_text(encoding="utf-8"), run.output
    assert mode_of(report) == mode


@every_core
@pytest.mark.parametrize(("directory_mode", "mode"), [(0o700, 0o600), (0o2770, 0o660), (0o750, 0o400)])
def test_files_of_facts_and_their_directory_keep_their_modes(
    core: str, directory_mode: int, mode: int, inventory: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "guest_facts"
    directory.mkdir()
    directory.chmod(directory_mode)
    (directory / "hv1.json").write_text("{}")
    (directory / "hv1.json").chmod(mode)
    run = run_playbook_of_collection(
        *("gather_facts", "--limit", "hv1"), inventory=inventory, directory=tmp_path, core=core
    )
    assert "guests" in json.loads((directory / "hv1.json").read_text(encoding="utf-8")), run.output
    assert (mode_of(directory), mode_of(directory / "hv1.json")) == (directory_mode, mode)


@every_core
def test_what_the_playbooks_create_has_a_mode_of_its_own(core: str, inventory: Path, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    place = {"inventory": inventory, "directory": tmp_path, "core": core}
    run_playbook_of_collection(*("gather_facts", "--limit", "hv1", "-e", "qga_directory=private/new/facts"), **place)
    run_playbook_of_collection(
        "resync_fleet", "--check", "--limit", "hv1", "-e", "qga_report=private/new.html", **place
    )
    found = {str(path.relative_to(tmp_path)): mode_of(path) for path in sorted(tmp_path.rglob("*"))}
    assert found == {
        "private": 0o700,
        "private/new": 0o755,
        "private/new/facts": 0o755,
        "private/new/facts/hv1.json": 0o640,
        "private/new.html": 0o644,
    }


# --------------------------------------------------------------------------------------------------------- gather_facts

SUBSET = ("-e", '{"qga_gather_subset": ["min", "network"]}')


@pytest.fixture(scope="module")
def gathered(inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[PlaybookRun]]:
    """The directory that it ran in: in check mode, then twice for real."""
    directory = tmp_path_factory.mktemp("gathered")
    check = run_playbook_of_collection("gather_facts", *SUBSET, "--check", inventory=inventory, directory=directory)
    assert list(directory.iterdir()) == []
    first = run_playbook_of_collection("gather_facts", *SUBSET, inventory=inventory, directory=directory)
    contents = {path.name: path.read_bytes() for path in (directory / "guest_facts").iterdir()}
    second = run_playbook_of_collection("gather_facts", *SUBSET, inventory=inventory, directory=directory)
    assert {path.name: path.read_bytes() for path in (directory / "guest_facts").iterdir()} == contents
    return directory / "guest_facts", [check, first, second]


def test_gathering_twice_changes_nothing(gathered: tuple[Path, list[PlaybookRun]]) -> None:
    changes = [re.findall(r" changed=([1-9]\d*) ", run.output) for run in gathered[1]]
    assert changes == [["1"], ["2", "1"], []]


def test_each_hypervisor_that_was_asked_has_a_file_and_none_is_elsewhere(
    gathered: tuple[Path, list[PlaybookRun]],
) -> None:
    directory = gathered[0]
    assert sorted(path.name for path in directory.iterdir()) == ["..%2Fhv2.json", "hv1.json"]
    assert [path.name for path in directory.parent.iterdir()] == ["guest_facts"]


def test_the_facts_are_of_every_guest_in_order(gathered: tuple[Path, list[PlaybookRun]], fleet: SimulatedFleet) -> None:
    text = (gathered[0] / "hv1.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=4, sort_keys=True) + "\n"
    names = [entry["name"] for entry in content["guests"]]
    assert names == sorted(fleet.path(name) for name in PROFILES if name.startswith("hv1/") and name != "hv1/leave-me")
    entries = {Path(entry["name"]).stem: entry for entry in content["guests"]}
    assert entries["web1"]["os"]["id"] == "debian"
    assert "time" not in entries["web1"]
    assert entries["dead"]["error"]["code"] == "unresponsive"
    assert entries["gone"]["reason"]["code"] == "not_connected"


def test_what_a_guest_is_called_is_no_template(gathered: tuple[Path, list[PlaybookRun]]) -> None:
    content = json.loads((gathered[0] / "..%2Fhv2.json").read_text(encoding="utf-8"))
    assert [Path(entry["name"]).stem for entry in content["guests"]] == ["db1", r"\x7b{ 6 * 7 }}"]
    assert {entry["status"] for entry in content["guests"]} == {"gathered"}


def test_the_summary_of_facts(gathered: tuple[Path, list[PlaybookRun]]) -> None:
    check, run, _again = gathered[1]
    assert table(run)["hv1"] == ["7", "5", "1", "1"]
    assert table(run)["total"] == ["9", "7", "1", "1"]
    assert "unreachable:" in table(run)["lost"]
    assert table(run)[""][-1] == f"The files are in {gathered[0]}."
    assert table(check)[""][-1] == "No file was written, since this is check mode."
    assert run.status == check.status == 2
    assert failed_hosts(run) == {"hv1", "lost", "bare"}

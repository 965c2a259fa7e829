"""The playbooks for fleets as a user runs them: the installed collection, four hypervisors, simulated guests.

Each hypervisor is this machine, with sockets of its own; one is unreachable, and one has no libvirt. Runs take seconds,
so the tests share a few.
"""

from __future__ import annotations

import html
import json
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.fakes.fleet import Profile, SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.processes.ansible_run import PlaybookRun, every_core, run_playbook_of_collection
from tests.support.fleet_results import without_host_clocks

BEHIND_NS = -3 * SECOND_NS
NEAR_NS = SECOND_NS // 10  # the tolerance
# The name of a guest must not become a template, and that of a hypervisor must not lead to another directory.
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
        # Unreachable to Ansible, which cannot write there.
        "lost": {"ansible_remote_tmp": "/proc/nonesuch"},
        "bare": {"qga_uri": "qemu+unix:///system?socket=/nonexistent"},
    }
    file = tmp_path_factory.mktemp("inventory") / "hypervisors.yml"
    group = {"hypervisors": {"hosts": hosts, "vars": {"qga_timeout": 0.5}}}
    # A host that is not a hypervisor.
    file.write_text(yaml.safe_dump({**group, "guests": {"hosts": {"web1": None}}}), encoding="utf-8")
    return file


def table(run: PlaybookRun) -> dict[str, list[str]]:
    """Return the rows of the summary by hypervisor, and the lines below it under an empty name."""
    lines = without_host_clocks(run.result("Summarize")["msg"])
    end = next(number for number, line in enumerate(lines) if line.startswith("total "))
    return {**{line.split()[0]: line.split()[1:] for line in lines[2 : end + 1]}, "": lines[end + 1 :]}


def failed_hosts(run: PlaybookRun) -> set[str]:
    return set(re.findall(r"^(\S+) +: .* failed=[1-9]", run.output, re.MULTILINE))


def is_near(offset_ns: int, truth_ns: int) -> bool:
    return abs(offset_ns - truth_ns) < NEAR_NS


# --------------------------------------------------------------------------------------------------------- resync_fleet


class Resynced(NamedTuple):
    """A run, and its report as a page and as data."""

    run: PlaybookRun
    report: str
    data: dict[str, Any]


def resynced_in(directory: Path, run: PlaybookRun, name: str = "resync_fleet") -> Resynced:
    page, data = (directory / f"{name}.{suffix}" for suffix in ("html", "json"))
    assert sorted(directory.iterdir()) == [page, data], run.output
    return Resynced(run, page.read_text(encoding="utf-8"), json.loads(data.read_text(encoding="utf-8")))


def summed(statuses: dict[str, int]) -> dict[str, int]:
    """Return the totals of a run that resynced clocks."""
    none = dict.fromkeys(("corrected", "would_correct", "unchanged", "slewing", "skipped", "failed"), 0)
    return {"total": sum(statuses.values()), **none, **statuses}


def fleet_sums(data: dict[str, Any]) -> dict[str, int]:
    """Return the other totals of a run. This machine's clock, which all hypervisors have, may not be synchronized."""
    unsynchronized = data["hypervisors_unsynchronized"]
    assert unsynchronized in (0, 3)  # one of the four is unreachable
    hypervisors = {"hypervisors": 4, "hypervisors_failed": 2, "hypervisors_unsynchronized": unsynchronized}
    return {"not_found": 0, **hypervisors}


@pytest.fixture(scope="module")
def checked(fleet: SimulatedFleet, inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> Resynced:
    """Run in check mode."""
    directory = tmp_path_factory.mktemp("checked")
    run = run_playbook_of_collection("resync_fleet", "--check", inventory=inventory, directory=directory)
    assert all(is_near(truth, PROFILES[name].offset_ns) for name, truth in fleet.truths().items())
    return resynced_in(directory, run)


@pytest.fixture(scope="module")
def resynced(
    checked: Resynced,  # noqa: ARG001  # it runs first
    inventory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Resynced:
    """Run in batches of three."""
    report = tmp_path_factory.mktemp("resynced") / "report.html"
    options = ("-e", "qga_batch_size=3", "-e", f"qga_report={report}")
    run = run_playbook_of_collection("resync_fleet", *options, inventory=inventory)
    return resynced_in(report.parent, run, report.stem)


def test_check_mode_reports_the_guests_that_a_run_would_correct(checked: Resynced) -> None:
    assert checked.run.status == 2, checked.run.output
    assert table(checked.run)["total"][:5] == ["9", "7", "0", "1", "1"]
    assert checked.run.result("Summarize")["msg"][0].split("  ")[2] == "would correct"
    assert checked.data["summary"] | summed({"would_correct": 7, "skipped": 1, "failed": 1}) == checked.data["summary"]
    assert checked.data["settings"]["check_mode"] is True
    assert "7 of 9 guests would be corrected." in checked.report
    assert "Check mode." in checked.report
    assert "web1.qga" in checked.report


def test_clocks_are_corrected_and_excluded_ones_left_alone(resynced: Resynced, fleet: SimulatedFleet) -> None:
    truths, received = fleet.truths(), fleet.received()
    assert all(is_near(truths[name], 0) for name in WORKED_ON), resynced.run.output
    assert is_near(truths["hv1/leave-me"], BEHIND_NS)
    assert not any(received["hv1/leave-me"].values())


def test_each_batch_has_a_line(resynced: Resynced) -> None:
    found = re.findall(r"^(?:ok|changed): \[hv1\] => \(item=(.*)\)$", resynced.run.output, re.MULTILINE)
    assert found == ["batch 1 of 3: guests 1 to 3", "batch 2 of 3: guests 4 to 6", "batch 3 of 3: guests 7 to 7"]
    assert f"changed: [{ESCAPING}] => (item=all 2 guests)" in resynced.run.output


def test_the_summary_has_every_hypervisor_and_those_with_failures_fail(resynced: Resynced) -> None:
    rows = table(resynced.run)
    assert rows["hv1"][:5] == ["7", "5", "0", "1", "1"]
    assert rows[ESCAPING][:5] == ["2", "2", "0", "0", "0"]
    assert "unreachable:" in rows["lost"]
    assert "hypervisor_unavailable:" in rows["bare"]
    (failure,) = rows[""]
    assert failure.startswith("hv1: dead: unresponsive: ")
    assert resynced.run.status == 2
    assert failed_hosts(resynced.run) == {"hv1", "lost", "bare"}
    assert '"msg": "1 of 7 guests failed."' in resynced.run.output
    assert "Traceback" not in resynced.run.output


def test_the_totals_are_published(resynced: Resynced) -> None:
    (stats,) = (task.result["ansible_stats"] for task in resynced.run.tasks if task.task == "Publish the totals")
    totals = stats["data"]["qga_summary"]
    expected = {**summed({"corrected": 7, "skipped": 1, "failed": 1}), "beyond_tolerance": 0, **fleet_sums(totals)}
    assert stats["data"] == {"qga_summary": expected}
    assert stats["aggregate"] is False


def test_the_data_is_that_of_the_page(resynced: Resynced, inventory: Path) -> None:
    header, guests = resynced.data["header"], resynced.data["guests"]
    assert resynced.data["schema"] == 1
    assert header["play"] == "Resync the clocks of all guests"
    assert header["inventory"] == [str(inventory)]
    assert 0 < header["duration"] < 600
    assert all(header[key] for key in ("collection_version", "core", "controller", "started_at"))
    assert all(header[key] in resynced.report for key in ("collection_version", "core", "controller"))
    assert [hypervisor["host"] for hypervisor in resynced.data["hypervisors"]] == [ESCAPING, "bare", "hv1", "lost"]
    assert {guest["label"] for guest in guests if guest["status"] == "failed"} == {"dead"}
    assert len(guests) == 9
    assert all(abs(guest["offset"]) < 0.1 for guest in guests if guest["status"] == "corrected")


def test_a_command_in_the_report_runs_the_failed_guests_again(
    resynced: Resynced, inventory: Path, fleet: SimulatedFleet, tmp_path: Path
) -> None:
    commands = [html.unescape(found) for found in re.findall(r"<pre><code>(.*?)</code></pre>", resynced.report)]
    assert len(commands) == 2
    program, playbook, _i, source, _e, variables = shlex.split(commands[0])
    assert (program, playbook, source) == ("ansible-playbook", "qemu.guest_agent.resync_fleet", str(inventory))
    assert json.loads(variables) == {"qga_hosts": "hv1", "qga_sockets": [fleet.path("hv1/dead")]}
    run = run_playbook_of_collection("resync_fleet", "-e", variables, inventory=inventory, directory=tmp_path)
    assert table(run)["hv1"][:5] == ["1", "0", "0", "0", "1"]
    assert json.loads(shlex.split(commands[1])[-1]) == {"qga_hosts": "bare,lost"}


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


@pytest.mark.parametrize("playbook", ["resync_fleet", "gather_facts"])
@pytest.mark.parametrize("arguments", [(), ("--limit", "hv1")])
def test_an_inventory_without_the_group_is_refused_in_a_sentence(
    playbook: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    run = run_playbook_of_collection(playbook, *arguments, inventory="hv1,hv2", directory=tmp_path)
    assert run.status == 2, run.output
    assert "The inventory has no host in the group 'hypervisors'." in run.output
    assert "pass -e qga_hosts=PATTERN." in run.output
    assert list(tmp_path.iterdir()) == []


def test_clocks_that_are_not_proven_right_are_failures_in_the_report(tmp_path: Path) -> None:
    slow = {"forward_seconds": 0.2, "backward_seconds": 0.1}
    profiles = {
        "hv1/slow": Profile(offset_ns=BEHIND_NS, **slow),
        "hv1/slow-and-right": Profile(**slow),
        "hv1/right": Profile(offset_ns=BEHIND_NS),
    }
    with SimulatedFleet(tmp_path / "fleet", profiles) as fleet:
        sockets = str(Path(fleet.path("hv1/slow")).with_name("*.qga"))
        options = json.dumps({"qga_hosts": "hv1", "qga_sockets": [sockets], "qga_timeout": 1})
        run = run_playbook_of_collection("resync_fleet", "-e", options, inventory="hv1,", directory=tmp_path)
    assert run.status == 2, run.output
    assert table(run)["hv1"][:5] == ["3", "1", "0", "0", "2"]
    *failures, unproven = table(run)[""]
    assert [failure.split(": ")[2] for failure in failures] == ["not_converged"] * 2
    assert unproven == "2 clocks are not proven right."
    written = (tmp_path / "resync_fleet.html").read_text(encoding="utf-8")
    assert unproven in written
    assert written.count('<td class="off">unproven</td>') == 2


def test_a_run_that_finds_no_guests_fails(tmp_path: Path) -> None:
    variables = json.dumps({"qga_hosts": "all", "qga_sockets": "/nonexistent/*.qga"})
    run = run_playbook_of_collection("resync_fleet", "-e", variables, inventory="hv1,hv2", directory=tmp_path)
    assert run.status == 2, run.output
    assert [" ".join(row[:8]) for name, row in table(run).items() if name.startswith("hv")] == [
        "0 0 0 0 0 \u2013 \u2013 not_found:"
    ] * 2
    assert failed_hosts(run) == {"hv1", "hv2"}
    assert "no guests found [not_found]. Check qga_domains or qga_sockets, and qga_exclude." in run.output
    assert "No guests were found." in (tmp_path / "resync_fleet.html").read_text(encoding="utf-8")


def test_a_name_that_no_hypervisor_has_fails_the_run_and_is_in_all_reports(
    inventory: Path, fleet: SimulatedFleet, tmp_path: Path
) -> None:
    sockets = [fleet.path("hv1/web1"), "/nonexistent/web9.qga"]
    variables = json.dumps({"qga_hosts": "hv1", "qga_sockets": sockets})
    run = run_playbook_of_collection("resync_fleet", "-e", variables, inventory=inventory, directory=tmp_path)
    assert run.status == 2, run.output
    assert table(run)["total"][0] == "1"
    assert table(run)[""] == ["Not found on any hypervisor: /nonexistent/web9.qga."]
    assert "Not found on any hypervisor that answered: '/nonexistent/web9.qga'." in run.output
    report = resynced_in(tmp_path, run)
    assert report.data["not_found"] == ["/nonexistent/web9.qga"]
    assert "Not found on any hypervisor: /nonexistent/web9.qga." in report.report


def test_a_variable_in_the_name_of_a_socket_is_taken_literally(tmp_path: Path) -> None:
    names = ("$HOME", "${HOME}", "$HOME[1]*", "web1")
    with SimulatedFleet(tmp_path / "fleet", {f"hv1/{name}": Profile(offset_ns=BEHIND_NS) for name in names}) as fleet:
        sockets = str(Path(fleet.path("hv1/web1")).with_name("*.qga"))
        options = json.dumps({"qga_hosts": "hv1", "qga_sockets": [sockets], "qga_timeout": 1})
        run = run_playbook_of_collection("resync_fleet", "-e", options, inventory="hv1,", directory=tmp_path)
        assert all(is_near(truth, 0) for truth in fleet.truths().values()), run.output
    assert run.status == 0, run.output
    assert table(run)["hv1"][:5] == ["4", "4", "0", "0", "0"]


@pytest.mark.parametrize(
    ("variable", "error"),
    [
        ("qga_fail_on=some", "qga_fail_on must be any, all or none, not 'some'."),
        ("qga_batch_size=many", "qga_batch_size must be a number of guests, not 'many'."),
        *(
            (f"qga_tolerance={value}", f"qga_tolerance must be a number of seconds from 0 to 31622400, not '{value}'.")
            for value in ("-1", "31622401", "soon", "nan")
        ),
        (
            "qga_report=x.json",
            "qga_report must name the page, such as resync_fleet.html, not 'x.json': its data is in a",
        ),
        ("qga_domains=web1", "more than one target given: domains, sockets [invalid_option]"),
    ],
)
def test_a_wrong_variable_is_refused_in_a_sentence(variable: str, error: str, inventory: Path, tmp_path: Path) -> None:
    run = run_playbook_of_collection(
        *("resync_fleet", "-e", variable, "--check", "--limit", ESCAPING), inventory=inventory, directory=tmp_path
    )
    assert run.status == 2, run.output
    assert error in run.output
    assert "Traceback" not in run.output
    if not variable.startswith("qga_domains"):
        assert "List guests" not in run.output
        assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------------------- modes


def modes_in(directory: Path) -> dict[str, int]:
    return {
        str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in sorted(directory.rglob("*"))
    }


@every_core
@pytest.mark.parametrize(("directory_mode", "mode"), [(0o700, 0o600), (0o2770, 0o664), (0o750, 0o440)])
def test_existing_reports_and_files_of_facts_and_their_directory_keep_their_modes(
    core: str, directory_mode: int, mode: int, inventory: Path, tmp_path: Path
) -> None:
    report, data, facts = (
        tmp_path / name for name in ("resync_fleet.html", "resync_fleet.json", "guest_facts/hv1.json")
    )
    facts.parent.mkdir()
    facts.parent.chmod(directory_mode)
    for file in (report, data, facts):
        file.write_text("{}")
        file.chmod(mode)
    for command in (["gather_facts"], ["resync_fleet", "--check"]):
        run_playbook_of_collection(*command, "--limit", "hv1", inventory=inventory, directory=tmp_path, core=core)
    assert "guests" in json.loads(facts.read_text(encoding="utf-8"))
    assert "Check mode." in report.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))["settings"]["check_mode"] is True
    kept = {"guest_facts": directory_mode, "guest_facts/hv1.json": mode}
    kept |= {"resync_fleet.html": mode, "resync_fleet.json": mode}
    assert modes_in(tmp_path) == kept


@every_core
def test_new_files_and_directories_have_the_documented_modes(core: str, inventory: Path, tmp_path: Path) -> None:
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
        "private/new.json": 0o644,
    }


# --------------------------------------------------------------------------------------------------------- gather_facts


class Gathered(NamedTuple):
    """A run in check mode, and then two real ones."""

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


def test_the_facts_have_every_guest_in_order(gathered: Gathered, fleet: SimulatedFleet) -> None:
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
    assert checked[""][-1] == "Check mode: no files were written."
    assert gathered.first.status == gathered.check.status == 2
    (stats,) = (task.result["ansible_stats"] for task in gathered.first.tasks if task.task == "Publish the totals")
    totals = stats["data"]["qga_summary"]
    assert totals == {"total": 9, "gathered": 7, "skipped": 1, "failed": 1, **fleet_sums(totals)}
    assert failed_hosts(gathered.first) == {"hv1", "lost", "bare"}

"""Both modules in this process, with many guests: from their arguments to the JSON on standard output."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _module as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    NotRunningError,
    OptedOutError,
    UnresponsiveError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned
from ansible_collections.qemu.guest_agent.plugins.module_utils._targets import Target
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.fakes.guest import EXTENDED_COMMANDS, SECOND, SimulatedGuest
from tests.support.module_fleet import Run, SimulatedFleet
from tests.support.resyncs import FIGURES


class TestUpdateTime:
    def test_each_guest_has_its_entry_in_the_order_in_which_they_are_named(
        self, fleet: SimulatedFleet, run: Run
    ) -> None:
        ended = run(qga_update_time, domains=["db1", "web2", "web1"])
        assert not ended.failed
        assert ended.result["changed"] is True
        assert list(ended.statuses().items()) == [("db1", "corrected"), ("web2", "unchanged"), ("web1", "corrected")]
        for name, entry in ended.guests.items():
            assert set(entry) - {"warnings"} == {"name", "status", "uuid", *FIGURES}
            assert entry["uuid"] == f"uuid-of-{name}"
            assert entry["changed"] is (name != "web2")
        assert all(abs(guest.clock.offset_ns()) < SECOND // 10 for guest in fleet.guests.values())
        assert [guest.closed for guest in fleet.guests.values()] == [1, 1, 1]
        assert fleet.closed == 1

    @pytest.mark.usefixtures("fleet")
    def test_the_summary_counts_and_has_the_largest_offsets_with_their_signs(self, run: Run) -> None:
        ended = run(qga_update_time, domains=["*"])
        duration_ns = ended.summary.pop("duration_ns")
        assert isinstance(duration_ns, int)
        assert duration_ns > 0
        largest_before, largest_after = (ended.summary.pop(f"largest_offset_{when}_ns") for when in ("before", "after"))
        assert ended.summary == {"total": 3, "corrected": 2, "unchanged": 1, "slewing": 0, "skipped": 0, "failed": 0}
        assert largest_before == ended.guests["web1"]["offset_before_ns"]
        assert abs(largest_before + 20 * SECOND) < SECOND
        residuals = [entry["offset_after_ns"] for entry in ended.guests.values()]
        assert largest_after == max((each for each in residuals if each is not None), key=abs)

    def test_an_offset_ahead_may_be_the_largest(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.guests["db1"].clock.step(60 * SECOND)
        assert run(qga_update_time, domains=["*"]).summary["largest_offset_before_ns"] > 60 * SECOND

    def test_check_mode_touches_nobody(self, fleet: SimulatedFleet, run: Run) -> None:
        ended = run(qga_update_time, domains=["*"], _ansible_check_mode=True)
        assert ended.result["changed"] is True
        assert ended.statuses() == {"web1": "corrected", "web2": "unchanged", "db1": "corrected"}
        assert ended.summary["corrected"] == 2
        assert all(guest.asked("guest-set-time") == [] for guest in fleet.guests.values())

    @pytest.mark.parametrize("check_mode", [False, True])
    def test_diff_mode_has_a_diff_under_the_name_of_each_guest_that_was_measured(
        self, fleet: SimulatedFleet, run: Run, check_mode: bool
    ) -> None:
        fleet.silence("web2")
        ended = run(qga_update_time, domains=["*"], fail_on="none", _ansible_diff=True, _ansible_check_mode=check_mode)
        assert [(diff["before_header"], diff["after_header"]) for diff in ended.result["diff"]] == [
            ("web1", "web1"),
            ("db1", "db1"),
        ]
        for diff in ended.result["diff"]:
            assert set(diff) == {"before", "after", "before_header", "after_header"}
            assert re.match(r"2026-11-23T04:0\d:\d\d\.\d+Z\n\Z", diff["before"])
            assert diff["before"] != diff["after"]

    def test_a_clock_that_must_not_be_touched(
        self, fleet: SimulatedFleet, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def metadata(namespace: str, _timeout: float) -> str:
            return f'<resync xmlns="{namespace}" enabled="no"/>'

        monkeypatch.setattr(fleet.guests["web1"], "metadata", metadata)
        skipped = run(qga_update_time, domains=["*"])
        assert not skipped.failed
        assert skipped.statuses()["web1"] == "skipped"
        assert skipped.guests["web1"]["reason"]["code"] == OptedOutError.code
        assert skipped.summary["skipped"] == 1
        named = run(qga_update_time, domains=["web1"])
        assert named.guests["web1"]["error"]["code"] == OptedOutError.code
        assert fleet.guests["web1"].requests == []
        assert run(qga_info, domains=["web1"], gather_subset=["os"]).statuses() == {"web1": "gathered"}

    def test_one_that_stays_wrong_keeps_its_figures(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.guests["web1"].handlers["guest-set-time"] = lambda _arguments: Returned({})
        ended = run(qga_update_time, domains=["*"])
        assert ended.failed
        assert ended.statuses() == {"web1": "failed", "web2": "unchanged", "db1": "corrected"}
        assert set(ended.guests["web1"]) - {"warnings"} == {"name", "status", "uuid", "error", *FIGURES}
        assert ended.guests["web1"]["error"]["code"] == "not_converged"
        assert ended.result["changed"] is True
        assert ended.result["msg"].startswith("1 of 3 guests failed: web1 (not_converged) [guests_failed].")


class TestInfo:
    @pytest.mark.usefixtures("fleet")
    def test_each_guest_has_its_facts(self, run: Run) -> None:
        ended = run(qga_info, domains=["*"], gather_subset=["hostname", "os"])
        assert not ended.failed
        assert ended.result["changed"] is False
        assert ended.result["guests"][0] == {
            "name": "web1",
            "status": "gathered",
            "uuid": "uuid-of-web1",
            "hostname": "web1.example",
            "os": {"id": "debian"},
            "errors": {},
        }
        assert ended.guests["db1"]["hostname"] == "db1.example"
        del ended.summary["duration_ns"]
        assert ended.summary == {"total": 3, "gathered": 3, "skipped": 0, "failed": 0}
        assert "diff" not in ended.result

    def test_listing_without_asking_anybody(self, fleet: SimulatedFleet, run: Run) -> None:
        ended = run(qga_info, domains=["*"], gather_subset=["!all"])
        assert ended.statuses() == dict.fromkeys(("web1", "web2", "db1"), "gathered")
        assert all(guest.requests == [] for guest in fleet.guests.values())

    def test_one_that_keeps_silent_does_not_hide_the_others(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.silence("web1")
        ended = run(qga_info, domains=["*"], gather_subset=["os"])
        assert ended.failed
        assert ended.result["guests"][0] == {
            "name": "web1",
            "status": "failed",
            "uuid": "uuid-of-web1",
            "error": {
                "code": "unresponsive",
                "message": "the agent of web1 does not answer",
                "hint": UnresponsiveError.default_hint,
            },
        }
        assert ended.statuses() == {"web1": "failed", "web2": "gathered", "db1": "gathered"}
        assert ended.result["error"]["code"] == "guests_failed"

    def test_a_guest_that_does_not_run(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.problems["web2"] = NotRunningError("web2 is shut off")
        ended = run(qga_info, domains=["*"], gather_subset=["os"])
        assert not ended.failed
        assert ended.guests["web2"] == {
            "name": "web2",
            "status": "skipped",
            "uuid": "uuid-of-web2",
            "reason": {
                "code": "not_running",
                "message": "web2 is shut off",
                "hint": NotRunningError.default_hint,
            },
        }
        assert fleet.guests["web2"].requests == []
        assert run(qga_info, domains=["web2"], gather_subset=["os"]).failed


class TestTheShape:
    @pytest.mark.usefixtures("fleet")
    @pytest.mark.parametrize(("domains", "has_guest"), [(["web1"], True), (["web1", "web2"], False), (["*"], False)])
    @pytest.mark.parametrize("which", [qga_info, qga_update_time])
    def test_guest_is_the_one_entry_if_there_is_exactly_one(
        self, which: Any, domains: list[str], has_guest: bool, run: Run
    ) -> None:
        ended = run(which, domains=domains)
        assert ("guest" in ended.result) is has_guest
        if has_guest:
            assert ended.result["guests"] == [ended.result["guest"]]
        assert "summary" in ended.result

    def test_no_guest_at_all(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.guests.clear()
        ended = run(qga_update_time, domains=["*"])
        assert not ended.failed
        assert ended.result["guests"] == []
        assert "guest" not in ended.result
        assert ended.result["changed"] is False
        del ended.summary["duration_ns"]
        assert ended.summary == {
            "total": 0,
            "corrected": 0,
            "unchanged": 0,
            "slewing": 0,
            "skipped": 0,
            "failed": 0,
            "largest_offset_before_ns": None,
            "largest_offset_after_ns": None,
        }

    @pytest.mark.parametrize(("which", "status"), [(qga_info, "gathered"), (qga_update_time, "corrected")])
    def test_a_single_guest_has_a_status_and_no_summary(
        self, fleet: SimulatedFleet, run: Run, monkeypatch: pytest.MonkeyPatch, which: Any, status: str
    ) -> None:
        monkeypatch.setattr(module, "target_of", lambda *_asked: Target("web1", lambda: fleet.guests["web1"]))
        ended = run(which, domain="web1", _ansible_diff=True)
        assert ended.result["guest"]["status"] == status
        assert ended.result["guests"] == [ended.result["guest"]]
        assert "uuid" not in ended.result["guest"]
        assert "summary" not in ended.result
        if which is qga_update_time:
            assert set(ended.result["diff"]) == {"before", "after"}

    def test_a_single_guest_that_failed_has_the_tasks_error(
        self, fleet: SimulatedFleet, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fleet.silence("web1")
        monkeypatch.setattr(module, "target_of", lambda *_asked: Target("web1", lambda: fleet.guests["web1"]))
        ended = run(qga_info, domain="web1", fail_on="none")
        assert ended.failed, "fail_on is for many"
        assert ended.result["guest"] == {"name": "web1", "status": "failed", "error": ended.result["error"]}


class TestFailOn:
    @pytest.mark.parametrize(
        ("silent", "fails"),
        [
            ([], set()),
            (["web1"], {"any"}),
            (["web1", "web2"], {"any"}),
            (["web1", "web2", "db1"], {"any", "all"}),
        ],
    )
    @pytest.mark.parametrize("fail_on", ["any", "all", "none"])
    def test_when_the_task_fails(
        self, fleet: SimulatedFleet, run: Run, fail_on: str, silent: list[str], fails: set[str]
    ) -> None:
        for name in silent:
            fleet.silence(name)
        ended = run(qga_update_time, domains=["*"], fail_on=fail_on)
        assert ended.failed is (fail_on in fails)
        assert ended.summary["failed"] == len(silent)
        assert len(ended.guests) == 3
        assert ("error" in ended.result) is ended.failed
        if ended.failed:
            assert ended.result["error"]["code"] == "guests_failed"
            assert ended.result["error"]["message"].startswith(f"{len(silent)} of 3 guests failed: web1 (unresponsive)")

    @pytest.mark.usefixtures("fleet")
    def test_another_word_is_ansibles_to_refuse(self, run: Run) -> None:
        ended = run(qga_info, domains=["*"], fail_on="most")
        assert ended.failed
        assert "fail_on must be one of" in ended.result["msg"]


AHEAD = "was left so"


class TestWarnings:
    @pytest.mark.parametrize(("guests", "told"), [(1, 1), (10, 10), (11, 10), (200, 10)])
    def test_after_ten_the_rest_is_counted(self, fleet: SimulatedFleet, run: Run, guests: int, told: int) -> None:
        fleet.guests.clear()
        for number in range(1, guests + 1):
            fleet.add(f"web{number}", 5 * SECOND)
        ended = run(qga_update_time, domains=["*"], backward="leave")
        assert not ended.failed
        warnings = ended.said(AHEAD)
        assert len(warnings) == told
        for number, warning in enumerate(warnings, 1):
            assert f"web{number}: the guest is " in warning
        more = f"and {guests - told} more warnings of this kind; each guest's entry in guests has its own"
        assert len(ended.said("more warnings")) == len(ended.said(more)) == (guests > told)
        assert all(AHEAD in entry["warnings"][0] for entry in ended.guests.values())
        assert ended.summary["unchanged"] == guests

    @pytest.mark.parametrize("guests", [2, 11])
    def test_clocks_that_glide_are_said_and_counted(self, fleet: SimulatedFleet, run: Run, guests: int) -> None:
        fleet.guests.clear()
        for number in range(1, guests + 1):
            fleet.add(f"web{number}", SECOND // 4)
            guest = fleet.guests[f"web{number}"]
            guest.commands.update(SimulatedGuest(guest.line, commands=EXTENDED_COMMANDS).commands)
        ended = run(qga_update_time, domains=["*"], backward="slew")
        assert not ended.failed
        assert set(ended.statuses().values()) == {"slewing"}
        assert (ended.summary["slewing"], ended.summary["corrected"]) == (guests, 0)
        sentences = ended.result["msg"].split("; ")
        assert sentences[0] == "web1: its clock glides back by 0.250 s within 500 s"
        assert len(sentences) == min(guests, 11)
        assert sentences[10:] == (["and 1 more guests"] if guests == 11 else [])

    def test_how_they_were_named_is_told_besides(self, fleet: SimulatedFleet, run: Run) -> None:
        fleet.warnings = ("web1 is named more than once; it is done once",)
        ended = run(qga_info, domains=["*"])
        assert ended.said("more than once")

    @pytest.mark.usefixtures("fleet")
    def test_a_guest_without_any_has_none_in_its_entry(self, run: Run) -> None:
        ended = run(qga_update_time, domains=["*"], backward="leave")
        assert ["warnings" in ended.guests[name] for name in ("web1", "web2", "db1")] == [False, False, True]

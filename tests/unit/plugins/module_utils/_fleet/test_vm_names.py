from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotConvergedError, UnresponsiveError
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.results import GuestResult
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.vm_names import node_name, with_claimed_name

from tests.fakes.guest import SimulatedGuest, TimeLine, fails, says
from tests.support.blocking import blocking

HOST_NAME = "guest-get-host-name"


class TestTheNodesConfiguration:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("agent: 1\nname: web1\nmemory: 512\n", "web1"),
            ("name: web1  \n", "web1"),
            ("memory: 512\n\n[before]\nname: old\n", None),
            ("#name: no\nhostname: no\n", None),
            ("name: \n", None),
            ("name: a\x1bb\n", r"a\x1bb"),
            ("", None),
        ],
    )
    @pytest.mark.parametrize("run", ["/run", "/var/run"])
    def test_has_the_name_before_the_sections_of_snapshots(
        self, tmp_path: Path, text: str, name: str | None, run: str
    ) -> None:
        (tmp_path / "100.conf").write_text(text)
        assert node_name(f"{run}/qemu-server/100.qga", tmp_path) == name

    @pytest.mark.parametrize(
        "socket",
        ["/run/qemu-server/101.qga", "/run/other/100.qga", "/srv/run/qemu-server/100.qga", "/run/qemu-server/web.qga"],
    )
    def test_is_used_for_sockets_of_its_guests_only(self, tmp_path: Path, socket: str) -> None:
        (tmp_path / "100.conf").write_text("name: web1\n")
        assert node_name(socket, tmp_path) is None

    def test_may_be_unreadable(self, tmp_path: Path) -> None:
        (tmp_path / "100.conf").mkdir()
        assert node_name("/run/qemu-server/100.qga", tmp_path) is None


def named(guest: SimulatedGuest, result: GuestResult) -> GuestResult:
    async def work(_agent: GuestAgent) -> GuestResult:
        return result

    done: GuestResult = blocking(with_claimed_name(work))(GuestAgent(guest, 5.0))
    return done


class TestTheAgentsName:
    @pytest.mark.parametrize(
        ("reply", "name"),
        [
            ({"host-name": "web1.example"}, "web1.example"),
            ({"host-name": "\x1b[2Jweb1"}, r"\x1b[2Jweb1"),
            *((reply, None) for reply in ({"host-name": ""}, {"host-name": 5}, {}, None, ["web1"])),
        ],
    )
    def test_is_marked_as_a_claim(self, line: TimeLine, reply: Any, name: str | None) -> None:
        guest = SimulatedGuest(line, commands=(HOST_NAME,))
        says(guest, HOST_NAME, reply)
        claim = {} if name is None else {"vm_name": name, "vm_name_from": "agent"}
        assert named(guest, GuestResult({"figure": 1})).entry == {"figure": 1, **claim}

    def test_is_replaced_by_the_nodes(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=(HOST_NAME,))
        says(guest, HOST_NAME, {"host-name": "web1.example"})
        entry = named(guest, GuestResult({})).of("/run/qemu-server/100.qga", None, "web1").as_dict()
        assert (entry["vm_name"], entry["vm_name_from"]) == ("web1", "node")

    def test_costs_no_result_if_the_agent_does_not_answer(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line, commands=(HOST_NAME,))
        fails(guest, HOST_NAME, UnresponsiveError("the agent does not answer"))
        assert named(guest, GuestResult({"figure": 1})).entry == {"figure": 1}

    def test_is_not_asked_for_after_a_failure(self, line: TimeLine) -> None:
        guest = SimulatedGuest(line)
        named(guest, GuestResult({}, error=NotConvergedError("still off")))
        assert guest.requests == []

"""How both modules check their options, in this process."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.support.module_fleet import Run, SimulatedFleet

EXACTLY_ONE = "Give exactly one of domain, socket, address, vsock, domains, sockets."


class TestOptions:
    @pytest.mark.parametrize("which", [qga_info, qga_update_time])
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"domain": ""}, "Domain is empty or contains a NUL character [invalid_option]."),
            ({}, f"No target given [invalid_option]. {EXACTLY_ONE}"),
            (
                {"domain": "a", "domains": []},
                f"More than one target given: domain, domains [invalid_option]. {EXACTLY_ONE}",
            ),
            (
                {"socket": "/run/1.qga", "address": "a:1", "vsock": "3:1"},
                f"More than one target given: socket, address, vsock [invalid_option]. {EXACTLY_ONE}",
            ),
            ({"sockets": []}, "Sockets is an empty list [invalid_option]. List guests in sockets, or set allow_empty"),
            ({"domains": ["web1", ""]}, "An entry of domains is empty or contains a NUL character [invalid_option]."),
            ({"domains": ["a\0b"]}, "An entry of domains is empty or contains a NUL character [invalid_option]."),
            ({"domains": ["*", "!"]}, "An entry of domains is empty or contains a NUL character [invalid_option]."),
            ({"domains": ["*"], "exclude": [""]}, "An entry of exclude is empty or contains a NUL character ["),
            ({"sockets": ["!/run/1.qga"]}, "Sockets has only exclusions [invalid_option]. Add a path or"),
            ({"domains": ["*"], "concurrency": 0}, "Concurrency is 0 [invalid_option]."),
            ({"domains": ["*"], "deadline": "nan"}, "Deadline is nan s [invalid_option]."),
        ],
    )
    def test_contradictions_and_empty_names_are_refused_before_a_guest_is_touched(
        self, fleet: SimulatedFleet, run: Run, which: Any, arguments: dict[str, Any], words: str
    ) -> None:
        ended = run(which, **arguments)
        assert ended.failed
        assert ended.result["msg"].startswith(words)
        assert "\n" not in ended.result["msg"]
        assert (ended.result["error"]["code"], ended.result["changed"]) == ("invalid_option", False)
        assert "guests" not in ended.result
        assert all(guest.requests == [] for guest in fleet.guests.values())

    @pytest.mark.parametrize(
        ("which", "arguments"),
        [
            (qga_update_time, {"tolerance": "nan"}),
            (qga_update_time, {"time": "tomorrow"}),
            (qga_info, {"gather_subset": ["nonsense"]}),
        ],
    )
    @pytest.mark.parametrize("target", [{"domain": "web1"}, {"domains": ["*"]}])
    @pytest.mark.usefixtures("web1")
    def test_a_modules_own_options_are_checked_before_the_guests_are_looked_for(
        self, fleet: SimulatedFleet, run: Run, which: Any, arguments: dict[str, Any], target: dict[str, Any]
    ) -> None:
        ended = run(which, **arguments, **target)
        assert (ended.result["error"]["code"], ended.result["changed"]) == ("invalid_option", False)
        assert (fleet.closed, fleet.guests["web1"].requests) == (0, [])

    def test_a_list_may_be_written_as_a_string_and_sockets_may_be_in_the_home_directory(
        self, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("1.qga", "2.qga", "3.qga"):
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(tmp_path / name))
        for sockets in ("~/*.qga,!~/1.qga", ["~/3.qga"]):
            ended = run(qga_info, sockets=sockets, exclude=["~/2.qga"], gather_subset=["!all"])
            assert list(ended.guests) == [f"{tmp_path}/3.qga"]

    def test_a_socket_where_nobody_listens_is_skipped_if_it_is_optional(self, run: Run, tmp_path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "1.qga"))
        for options, status in (
            ({"sockets": [f"{tmp_path}/*"]}, "skipped"),
            ({"sockets": [f"{tmp_path}/1.qga"]}, "failed"),
            ({"sockets": [f"{tmp_path}/1.qga"], "skip_unusable": True}, "skipped"),
        ):
            assert run(qga_info, **options).statuses() == {f"{tmp_path}/1.qga": status}

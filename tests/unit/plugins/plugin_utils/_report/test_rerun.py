from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Fleet, Header, Settings, read_fleet
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.rerun import Rerun, reruns
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fleet_results import DISGUISED, ENDLESS, HOSTILE, corrected, failed, host

UUID = "1e1a6f0c-1111-4222-8333-444455556666"
LOST = {"code": "unreachable", "message": "no route", "hint": ""}


def made(*hypervisors: Any, check_mode: bool = False, inventory: tuple[str, ...] = ()) -> list[Rerun]:
    fleet = Fleet.of(read_fleet(hypervisors), Settings(None, check_mode))
    return reruns(fleet, Header("title", 0, inventory=inventory))


def commands(*hypervisors: Any, **options: Any) -> list[list[str]]:
    return [shlex.split(command) for rerun in made(*hypervisors, **options) for command in rerun.commands]


def variables(*hypervisors: Any) -> list[dict[str, Any]]:
    return [json.loads(command[-1]) for command in commands(*hypervisors)]


def test_the_command_selects_the_guests_that_failed_and_their_hypervisors() -> None:
    (rerun,) = made(host("hv1", corrected("web1"), failed("web2"), failed("it's")), host("hv2", corrected("web2")))
    assert rerun == (
        "Run 2 failed guests again:",
        (
            (
                """ansible-playbook qemu.guest_agent.resync_fleet -i INVENTORY -e '{"qga_hosts": "hv1", """
                """"qga_domains": ["it'"'"'s", "web2"]}'"""
            ),
        ),
        False,
    )


def test_hypervisors_share_a_command_only_if_the_same_guests_failed_on_them() -> None:
    guests = {"hv1": "ab", "hv2": "b", "hv3": "ba", "hv4": "a"}
    fleet = [host(name, corrected("c"), *map(failed, names)) for name, names in guests.items()]
    (rerun,) = made(*fleet)
    assert rerun.sentence == "Run 6 failed guests again:"
    assert variables(*fleet) == [
        {"qga_hosts": "hv1,hv3", "qga_domains": ["a", "b"]},
        {"qga_hosts": "hv2", "qga_domains": ["b"]},
        {"qga_hosts": "hv4", "qga_domains": ["a"]},
    ]


def test_a_hypervisor_that_is_run_again_as_a_whole_is_in_no_other_command() -> None:
    fleet = [host("hv1", failed("web1"), failed("web*")), host("hv2", failed("web1"))]
    assert [rerun.sentence for rerun in made(*fleet)] == [
        "Run 1 failed guest again:",
        "Run all guests of 1 hypervisor again:",
    ]
    assert variables(*fleet) == [{"qga_hosts": "hv2", "qga_domains": ["web1"]}, {"qga_hosts": "hv1"}]


def test_a_run_that_found_no_guests_has_no_command() -> None:
    assert made(host("hv1", error={"code": "not_found", "message": "no guests found"})) == []


def test_nothing_failed() -> None:
    assert made(host("hv1", corrected("web1"))) == []


def test_sockets_are_selected_by_their_paths() -> None:
    fleet = host("hv1", failed("web1"), failed("/run/vm one/qga.sock"))
    domains, sockets = variables(fleet)
    assert domains == {"qga_hosts": "hv1", "qga_domains": ["web1"]}
    assert sockets == {"qga_hosts": "hv1", "qga_sockets": ["/run/vm one/qga.sock"]}


def test_the_command_has_the_inventories_and_check_mode() -> None:
    (command,) = commands(host("hv1", failed("web1")), check_mode=True, inventory=("my hosts.yml", "/etc/more"))
    assert command[2:7] == ["-i", "my hosts.yml", "-i", "/etc/more", "--check"]
    (command,) = commands(host("hv1", failed("web1")), inventory=("a\nb",))
    assert command[2:4] == ["-i", "INVENTORY"]


def test_hypervisors_that_failed_are_run_again_as_a_whole() -> None:
    fleet = [host("hv1", failed("web1"), error=LOST), host("hv2", error=LOST)]
    assert variables(*fleet) == [{"qga_hosts": "hv1", "qga_domains": ["web1"]}, {"qga_hosts": "hv2"}]


ODD = (
    *HOSTILE,
    *DISGUISED,
    *ENDLESS,
    "web*",
    "web[1]",
    "$HOME",
    "/run/$HOME.qga",
    "!web",
    "#jinja2:x",
    "a\\x7b",
    "",
    "/run/{{ x }}.sock",
)


@pytest.mark.parametrize("name", ODD, ids=lambda name: ascii(name[:20]))
def test_a_name_that_something_would_interpret_is_not_in_a_command(name: str) -> None:
    for guest in (failed(name), {**failed(name), "uuid": UUID}):
        for found in variables(host("hv1", guest)):
            assert found["qga_hosts"] == "hv1"
            assert set(found) == {"qga_hosts"} or found == {"qga_hosts": "hv1", "qga_domains": [UUID]} or is_plain(name)
    # Nor is the name of a hypervisor.
    (command,) = commands(host(name, failed("web1")))
    assert command == ["ansible-playbook", "qemu.guest_agent.resync_fleet", "-i", "INVENTORY"]


def is_plain(name: str) -> bool:
    return not set(name) & set("*?[]{}$\\") and name.isprintable() and name[0] not in "!#~&"


@given(st.text(min_size=1) | st.sampled_from(HOSTILE), st.text(max_size=30) | st.just("hv1"))
def test_a_command_is_one_line_that_a_shell_reads_as_it_was_made(name: str, hypervisor: str) -> None:
    for rerun in made(host(hypervisor, failed(name))):
        (command,) = rerun.commands
        assert command.isascii()
        assert command.isprintable()
        _program, _playbook, _i, _inventory, *rest = shlex.split(command)
        given = json.loads(rest[1]) if rest else {}
        assert set(given) <= {"qga_hosts", "qga_domains", "qga_sockets"}
        assert "{{" not in command
        assert "{%" not in command
        assert all(each == [name] for key, each in given.items() if key != "qga_hosts")


def test_too_many_guests_are_selected_by_their_hypervisors() -> None:
    many = [host(f"hv{number}", *(failed(f"web{number}-{each}") for each in range(600))) for number in range(2)]
    (rerun,) = made(*many)
    assert rerun.sentence == (
        "1,200 failed guests are too many to select by name. Run all guests of 2 hypervisors again:"
    )
    assert json.loads(shlex.split(*rerun.commands)[-1]) == {"qga_hosts": "hv0,hv1"}
    (rerun,) = made(*(host(f"hypervisor{number}.example.org", error=LOST) for number in range(500)))
    assert rerun.sentence == "Run the whole fleet again:"
    assert rerun.commands[0].endswith("-i INVENTORY")


def test_at_most_twenty_commands_select_guests() -> None:
    fleet = [host(f"hv{number}", failed(f"web{number}")) for number in range(21)]
    (rerun,) = made(*fleet[1:])
    assert (rerun.sentence, len(rerun.commands), rerun.long) == ("Run 20 failed guests again:", 20, True)
    (rerun,) = made(*fleet)
    assert rerun.sentence == "21 failed guests are too many to select by name. Run all guests of 21 hypervisors again:"


def test_a_long_command_is_folded() -> None:
    assert [rerun.long for rerun in made(host("hv1", *(failed(f"web{each}") for each in range(100))))] == [True]

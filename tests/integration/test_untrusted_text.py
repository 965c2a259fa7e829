"""Guests that send only bait, in whole plays of every supported ansible-core.

A program that executes bait leaves a canary. A run takes seconds, so the tests share a few runs.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.fakes.agent import serving
from tests.fakes.kinds import SECOND_NS
from tests.hostile.agent import STOCK, HostileAgent
from tests.hostile.agent import Play as Speech
from tests.hostile.libvirt_daemon import Daemon
from tests.processes.ansible_run import (
    CORES,
    NEWEST,
    PlaybookRun,
    every_core,
    play,
    run_playbook,
    run_playbook_of_collection,
    write_play,
)
from tests.processes.socket_server import listen_unix
from tests.support.bait import KEYS, baits, failing, halves, refusing
from tests.support.bait_plays import NAMES, RUNS, SETTINGS, Acted, Workspace, act, workspace
from tests.support.collection import ROOT
from tests.support.terminal import commands_in
from tests.support.tiers import quick

LONGEST = 4096


# Seconds. The first test of each core waits for five playbooks, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module", params=quick(CORES, [NEWEST]))
def acted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Acted]:
    with workspace(request.param, tmp_path_factory.mktemp(f"core-{request.param}")) as place:
        yield act(place)


def texts_of(place: Workspace) -> dict[str, str]:
    """Return the bait that guests report, by name, except text that is not valid UTF-8."""
    return {name: text for name, text in baits(place.canaries).items() if name != "surrogates"}


def entries(run: PlaybookRun, task: str) -> dict[str, dict[str, Any]]:
    """Return the entries of a module's result by guest."""
    return {Path(guest["name"]).stem: guest for guest in run.result(task)["guests"]}


def words(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        return {word for item in value.values() for word in words(item)}
    return {word for item in value for word in words(item)} if isinstance(value, list) else set()


def keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | keys(list(value.values()))
    return {key for item in value for key in keys(item)} if isinstance(value, list) else set()


# -------------------------------------------------------------------------------------------------- nothing is executed


def test_no_text_of_a_guest_is_executed(acted: Acted) -> None:
    assert [path.name for path in acted.place.canaries.iterdir()] == []


@pytest.mark.parametrize("name", RUNS)
def test_no_play_fails_and_no_terminal_command_is_printed(name: str, acted: Acted) -> None:
    run = acted.runs[name]
    expected = {"Fail with all that fail", "Fail with one", "Assert", "Fail", "Fail if guests failed"}
    assert {task.task for task in run.tasks if task.outcome != "ok"} <= expected
    assert run.status == (2 if name == "resync_fleet" else 0), run.output[-3000:]
    assert "Traceback" not in run.output
    assert commands_in(run.output) == []
    # A guest's terminal command was printed in escaped form.
    assert r"\x1b]52;c;cm0gLXJmIC8=" in run.output


@every_core
def test_bait_is_executed_where_text_is_trusted(core: str, tmp_path: Path) -> None:
    """Otherwise, these tests would prove nothing."""
    canaries = tmp_path / "canaries"
    canaries.mkdir()
    texts = {name: baits(canaries)[name] for name in ("expression", "statement", "comment", "header", "json")}
    (tmp_path / "texts.json").write_text(json.dumps({f"its_{name}": text for name, text in texts.items()}))
    show = [{"ansible.builtin.debug": {"var": f"its_{name}"}, "ignore_errors": True} for name in texts]
    read = {"ansible.builtin.include_vars": str(tmp_path / "texts.json")}
    playbook = write_play(tmp_path / "play.yml", play("localhost", read, *show))
    output = run_playbook(playbook, environment=SETTINGS, core=core).output
    assert {path.name for path in canaries.iterdir()} == set(texts), output


# ------------------------------------------------------------------------------------------------------- it is returned

SUBSETS = (
    *("hostname", "os", "timezone", "network", "routes"),
    *("filesystems", "users", "disks", "cpu_stats", "freeze"),
)


def test_all_bait_is_returned_as_text(acted: Acted) -> None:
    guests = entries(acted.runs["a play"], "Ask all")
    details = entries(acted.runs["a play"], "Ask for details of a command")
    for name, text in texts_of(acted.place).items():
        guest = guests[f"telling-{name}"]
        assert guest["errors"] == {}, guest["errors"]
        found = {word for subset in SUBSETS for word in words(guest[subset])}
        # The module makes the time of a login itself, from a number.
        assert found == {visible(text, LONGEST), "2026-11-23T04:05:54.500000000Z"}
        assert guest["agent"]["version"] == visible(text)
        assert visible(text) in {command["name"] for command in guest["commands"]}
        assert guest["time"]["source"] == visible(text, LONGEST)
        assert details[f"telling-{name}"]["command"]["description"] == visible(text, LONGEST)
        for refused in (guests[f"refusing-{name}"], guests[f"failing-{name}"]):
            assert visible(text) in refused["errors"]["os"]["message"]


def test_long_texts_are_cut_and_far_too_long_ones_are_errors(acted: Acted) -> None:
    guest = entries(acted.runs["a play"], "Ask all")["telling-at-length"]
    assert guest["hostname"].endswith("\u2026")
    assert guest["errors"]["timezone"]["code"] == guest["errors"]["os"]["code"] == "protocol_error"


def test_no_fact_has_a_name_with_a_meaning_for_ansible(acted: Acted) -> None:
    guests = entries(acted.runs["a play"], "Ask all")
    for key in KEYS:
        guest = guests[f"keyed-{key}"]
        assert guest["errors"]["hostname"]["code"] == guest["errors"]["freeze"]["code"] == "protocol_error"
        assert not {name for name in keys(guest) if "ansible" in name.lower()}


def test_clocks_are_corrected_and_errors_become_warnings(acted: Acted) -> None:
    guests = entries(acted.runs["a play"], "Correct all clocks")
    for name, text in texts_of(acted.place).items():
        for guest in (f"telling-{name}", f"refusing-{name}"):
            assert abs(acted.truths_ns[guest]) <= SECOND_NS // 10
            assert guests[guest]["status"] == "corrected"
            assert any(visible(text) in warning for warning in guests[guest]["warnings"])


def test_hosts_and_groups_can_be_named_by_bait(acted: Acted) -> None:
    shown = [task.result["msg"] for task in acted.runs["a play"].tasks if task.task == "Show hosts"]
    names = {visible(baits(acted.place.canaries)[name], LONGEST) for name in NAMES}
    assert {message.partition(" in [")[0] for message in shown} == names


# --------------------------------------------------------------------------------------------------- in files, and back


@pytest.mark.parametrize(
    "file", ["facts.json", "facts.yml", "guest_facts/hv1.json", "guest_facts/hv2.json", "resync_fleet.json"]
)
def test_a_file_of_facts_holds_no_template(file: str, acted: Acted) -> None:
    # JSON is YAML.
    content = yaml.safe_load((acted.place.written / file).read_text(encoding="utf-8"))
    assert not {word for word in words(content) if re.search(r"\{[{%#]|\{$|^#jinja2:", word)}
    assert not {key for key in keys(content) if key.startswith(("_", "ansible"))}
    # A guest's template is there in escaped form.
    assert any(r"\x7b{ lookup(" in word for word in words(content))


def test_texts_are_read_back_as_they_were_returned(acted: Acted) -> None:
    read = acted.runs["a play"].result("Show what was read")["msg"]
    texts = {visible(text, LONGEST) for text in texts_of(acted.place).values()}
    assert texts <= set(read[0])
    facts = acted.runs["gather_facts, read back"].result("Show what was read")["from_file"]
    systems = [guest["os"] for guest in facts["guests"] if "twice" in guest["name"]]
    assert [(system["id"], system["name"]) for system in systems] == [
        (visible(first), visible(second)) for first, second in halves(acted.place.canaries).values()
    ]


# ----------------------------------------------------------------------------------------------------------- the report


def test_the_report_and_the_summary_show_it_as_text(acted: Acted) -> None:
    page = (acted.place.written / "resync_fleet.html").read_text(encoding="utf-8")
    assert (page.count("<script"), page.count("<img")) == (1, 0)
    assert {text for text in texts_of(acted.place).values() if visible(text) not in html.unescape(page)} == set()
    lines = acted.runs["resync_fleet"].result("Summarize")["msg"]
    assert any(r"\x7b{ lookup(" in line for line in lines)
    assert not any(re.search(r"\{[{%#]", line) for line in lines)


# ----------------------------------------------------------------------------------------------------- a restored guest

# A fake virsh for a domain that can be restored from its managed save.
VIRSH = """#!/bin/sh
case "$*" in
*dominfo*) printf 'Name: tenant\\nState: shut off\\n' ;;
*domstate*) echo running ;;
esac
"""
# The source of both modules of libvirt-python. The agent of the only domain is reached through a fake daemon.
LIBVIRT = """
import sys
from tests.hostile.libvirt_client import RemoteLibvirt
sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = stand_in = RemoteLibvirt({daemon!r})
stand_in.registerErrorHandler = lambda *_arguments: None
"""


@pytest.mark.parametrize(("play_of", "status"), [(refusing, 0), (failing, 2)], ids=["refusing", "failing"])
def test_text_of_a_restored_guest_has_no_effect(play_of: Callable[[str], Speech], status: int, tmp_path: Path) -> None:
    (tmp_path / "canaries").mkdir()
    texts = baits(tmp_path / "canaries")
    text = " ".join(texts[name] for name in ("clipboard", "direction", "lines", "expression"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "virsh").write_text(VIRSH)
    (tmp_path / "bin" / "virsh").chmod(0o755)
    for module in ("libvirt", "libvirt_qemu"):
        (tmp_path / f"{module}.py").write_text(LIBVIRT.format(daemon=str(tmp_path / "libvirt.sock")))
    agent = HostileAgent(play_of(text), STOCK)
    with (
        serving(listen_unix(tmp_path / "agent.sock"), agent),
        Daemon(tmp_path / "libvirt.sock", tmp_path / "agent.sock"),
    ):
        run = run_playbook_of_collection(
            *("restore_guest", "-v", "-e", "qga_hosts=localhost"),
            *("-e", "qga_domain=tenant qga_managed_save=true qga_wait_timeout=0"),
            environment={
                **SETTINGS,
                "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
                "PYTHONPATH": f"{tmp_path}:{ROOT}",
            },
            on_terminal=True,
        )
    assert run.status == status, run.output
    assert commands_in(run.output) == []
    assert r"\x1b]52;c;cm0gLXJmIC8=" in run.output
    assert list((tmp_path / "canaries").iterdir()) == []

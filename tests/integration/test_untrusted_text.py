# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests whose every word is bait, through whole plays of every ansible-core that is supported.

What a guest says is registered, shown, joined, looped over, written to files and read back as variables, and becomes
hosts and groups. Whoever takes a word of it for more leaves a canary. A run costs seconds, so the tests share a few.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.hostile.actions import Play as Speech
from tests.hostile.agent import HostileAgent
from tests.hostile.guest import SECOND_NS, STOCK, Guest
from tests.hostile.libvirt_daemon import Daemon
from tests.hostile.server import serving
from tests.support.ansible_run import PlaybookRun, run_playbook, run_playbook_of_collection
from tests.support.bait import KEYS, baits, failing, guests_with, halves, refusing
from tests.support.chosen import chosen
from tests.support.collection import ROOT
from tests.support.cores import every_core
from tests.support.fake_agent import listen_unix
from tests.support.plays import Task, play, write_play
from tests.support.terminal import commands_in

# Ansible's own colours would be commands to the terminal, too.
SETTINGS = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"}
LONGEST = 4096
BEHIND_NS = -3 * SECOND_NS

# Seconds. The first test waits for fifteen playbooks to run: a minute on an idle machine, which this need not be.
pytestmark = pytest.mark.timeout(900)


# ----------------------------------------------------------------------------------------------------------- the ground


@dataclass(frozen=True)
class Ground:
    """The guests of one ansible-core, where canaries would be, and where what plays write goes."""

    core: str
    directory: Path
    agents: Mapping[str, HostileAgent]

    @property
    def canaries(self) -> Path:
        return self.directory / "canaries"

    @property
    def written(self) -> Path:
        return self.directory / "written"

    def socket(self, pattern: str = "*") -> str:
        return str(self.directory / "guests" / f"{pattern}.qga")

    def set_back(self) -> None:
        for agent in self.agents.values():
            agent.guest.offset_ns = BEHIND_NS

    def truths_ns(self) -> dict[str, int]:
        return {name: agent.guest.offset_ns for name, agent in self.agents.items()}


@contextlib.contextmanager
def ground(core: str, directory: Path) -> Iterator[Ground]:
    place = Ground(core, directory, guests_with(directory / "canaries"))
    for path in (place.canaries, place.written, Path(place.socket()).parent):
        path.mkdir()
    with contextlib.ExitStack() as stack:
        for name, agent in place.agents.items():
            stack.enter_context(serving(listen_unix(Path(place.socket(name))), agent))
        yield place


# ------------------------------------------------------------------------------------------------------------ the plays

# Some that would do harm as the name of a host or of a group.
NAMES = ("expression", "headerinoneline", "shell", "screen", "lines", "direction")

TELLING = "fleet.guests | selectattr('hostname', 'defined') | selectattr('os.pretty_name', 'defined') | list"


def ask(place: Ground) -> list[Task]:
    """What the modules give, also when they fail."""
    all_of_them = {"sockets": [place.socket()], "fail_on": "none"}
    return [
        {"name": "Ask all", "qemu.guest_agent.qga_info": all_of_them, "register": "fleet"},
        {"name": "Ask one", "qemu.guest_agent.qga_info": {"socket": place.socket("telling-screen")}, "register": "one"},
        {
            "name": "Ask for details of a command",
            "qemu.guest_agent.qga_info": {**all_of_them, "sockets": [place.socket("telling-*")], "command": "x"},
            "register": "details",
        },
        {
            "name": "Set all clocks right",
            "qemu.guest_agent.qga_update_time": {**all_of_them, "update_rtc": True},
            "register": "clocks",
        },
        {
            "name": "Fail with all that fail",
            "qemu.guest_agent.qga_update_time": {"sockets": [place.socket("failing-*")]},
            "register": "failed",
            "ignore_errors": True,
        },
        {
            "name": "Fail with one",
            "qemu.guest_agent.qga_update_time": {"socket": place.socket("failing-clipboard")},
            "register": "failed_one",
            "ignore_errors": True,
        },
    ]


def go_on(what: str) -> list[Task]:
    """What plays do with results on the controller. ``what`` is an expression for a list of texts."""
    joined = {
        "texts": "{{ " + what + " }}",
        "joined": "{{ texts | join(' ') }} {{ failed.msg }} {{ failed_one.error.message }}",
        # Each half of a text is the id of a system, and the other one its name.
        "whole": "{{ in_two | map(attribute='id') | zip(in_two | map(attribute='name')) | map('join') | list }}",
    }
    in_two = "{{ fleet.guests | selectattr('name', 'search', 'twice') | map(attribute='os') | list }}"
    each = "{{ item.hostname }} runs {{ item.os.pretty_name }}, {{ item.os | to_json }}"
    return [
        *(
            {"name": f"Show {name}", "ansible.builtin.debug": {"var": name}}
            for name in ("fleet.guests", "one", "details")
        ),
        {"name": "Join", "ansible.builtin.set_fact": joined, "vars": {"in_two": in_two, "texts": "{{ " + what + " }}"}},
        {"name": "Join once more", "ansible.builtin.set_fact": {"again": "{{ joined }}{{ whole | join(' ') }}"}},
        {"name": "Nest", "ansible.builtin.set_fact": {"nested": "{{ {'a': [again], 'b': texts, 'c': whole} }}"}},
        {"name": "Show it", "ansible.builtin.debug": {"msg": ["{{ again }}", "{{ nested }}", "{{ nested.c[0] }}"]}},
        {
            "name": "Go through them",
            "ansible.builtin.debug": {"msg": each},
            "loop": "{{ " + TELLING + " }}",
            "loop_control": {"label": "{{ item.hostname }}"},
            "when": ["item.hostname != 'web1'", "item.os.pretty_name is not search('web1')"],
        },
        {
            "name": "Assert",
            "ansible.builtin.assert": {"that": ["texts | length < 3"], "fail_msg": "Wrong: {{ again }}"},
            "ignore_errors": True,
        },
        {"name": "Fail", "ansible.builtin.fail": {"msg": "{{ failed.guests }} {{ again }}"}, "ignore_errors": True},
        {"name": "Run a program", "ansible.builtin.command": {"argv": ["echo", "{{ again }}"]}, "changed_when": False},
        {"name": "Run a shell", "ansible.builtin.shell": "echo {{ again | quote }}", "changed_when": False},
        {
            "name": "Delegate",
            "ansible.builtin.set_fact": {"elsewhere": "{{ again }}"},
            "delegate_to": "other",
            "delegate_facts": True,
        },
        {"name": "Show what was delegated", "ansible.builtin.debug": {"msg": "{{ hostvars['other'].elsewhere }}"}},
    ]


def keep(place: Ground) -> list[Task]:
    """What goes into files, and what of them comes back."""
    in_json, in_yaml, in_text = (str(place.written / f"facts.{kind}") for kind in ("json", "yml", "txt"))
    return [
        {
            "name": "Write JSON",
            "ansible.builtin.copy": {
                "content": "{{ {'kept': texts, 'kept_again': again, 'kept_whole': whole} | to_nice_json | string }}",
                "dest": in_json,
            },
        },
        {
            "name": "Write YAML",
            "ansible.builtin.copy": {
                "content": "{{ {'kept_as_yaml': texts + whole + [again]} | to_nice_yaml(width=99999) | string }}",
                "dest": in_yaml,
            },
        },
        {"name": "Fill in a template", "ansible.builtin.template": {"src": "facts.j2", "dest": in_text}},
        {"name": "Read JSON back", "ansible.builtin.include_vars": in_json},
        {"name": "Read YAML back", "ansible.builtin.include_vars": in_yaml},
        {
            "name": "Show what was read",
            "ansible.builtin.debug": {
                "msg": [f"{{{{ kept{part} }}}}" for part in ("", "_again", "_whole", "_as_yaml")]
            },
        },
        {
            "name": "Join what was read",
            "ansible.builtin.set_fact": {"joined_again": "{{ kept | join('') }}{{ kept_whole | join('') }}"},
        },
        {"name": "Show what was looked up", "ansible.builtin.debug": {"msg": ["{{ looked_up }}", "{{ joined_again }}"]}}
        | {"vars": {"looked_up": "{{ lookup('file', '" + in_json + "') | from_json }}"}},
    ]


def name_hosts(place: Ground) -> list[Task]:
    """What enters the inventory of the run."""
    named = {
        "loop": "{{ fleet.guests | selectattr('name', 'in', named) | list }}",
        "vars": {"named": [place.socket(f"telling-{name}") for name in NAMES]},
    }
    host = {"name": "{{ item.hostname }}", "groups": ["made"], "told": "{{ item.os.name }}", "all_told": "{{ item }}"}
    return [
        {"name": "Make hosts of them", "ansible.builtin.add_host": host, **named},
        {"name": "Make groups of them", "ansible.builtin.group_by": {"key": "os_{{ item.hostname }}"}, **named},
    ]


def of_hosts() -> list[Task]:
    """What hosts of such names go through."""
    who = "{{ inventory_hostname }} in {{ group_names }}: {{ told }}, {{ hostvars[inventory_hostname].told }}"
    return [
        {"name": "Show who they are", "ansible.builtin.debug": {"msg": who}},
        {"name": "Keep it", "ansible.builtin.set_fact": {"kept": "{{ inventory_hostname }}{{ all_told.os }}"}},
        {"name": "Show what was kept", "ansible.builtin.debug": {"msg": "{{ kept }} {{ groups }} {{ all_told }}"}},
    ]


# ------------------------------------------------------------------------------------------------------------- the runs

OWN_PLAYS = ("a play", "a play, with -vvv")
RUNS = (*OWN_PLAYS, "gather_facts", "gather_facts, read back", "resync_fleet")


@dataclass(frozen=True)
class Acted:
    """What one ansible-core made of its guests' words. ``truths_ns`` are the offsets of the clocks it had set."""

    place: Ground
    runs: Mapping[str, PlaybookRun]
    truths_ns: Mapping[str, int]


def act(place: Ground) -> Acted:
    texts = "fleet.guests | selectattr('hostname', 'defined') | map(attribute='hostname') | list"
    first = (*ask(place), *go_on(texts))
    playbooks = (
        write_play(
            place.directory / "play.yml",
            play("localhost", *first, *keep(place), *name_hosts(place)),
            play("made", *of_hosts()),
        ),
        write_play(place.directory / "verbose.yml", play("localhost", *first)),
    )
    (place.directory / "facts.j2").write_text("{% for guest in fleet.guests %}{{ guest }} {% endfor %}{{ again }}\n")
    run = partial(run_playbook, environment=SETTINGS, core=place.core, on_terminal=True)
    runs = {}
    for name, playbook, verbosity in zip(OWN_PLAYS, playbooks, ([], ["-vvv"]), strict=True):
        place.set_back()
        runs[name] = run(playbook, "-i", "other,", "--diff", *verbosity)
    # What guests say instead of facts is told by the other runs.
    facts = {"qga_gather_subset": ["all"], "qga_exclude": ["refusing-*"]}
    runs["gather_facts"] = of_collection("gather_facts", place, "-e", json.dumps(facts), "--diff", "-v")
    back = read_back(place)
    runs["gather_facts, read back"] = run(back, "-i", str(back.with_name("inventory")), "--limit", "!localhost")
    place.set_back()
    runs["resync_fleet"] = of_collection("resync_fleet", place, "-e", "qga_update_rtc=true", "-v")
    return Acted(place, runs, place.truths_ns())


def of_collection(name: str, place: Ground, *arguments: str) -> PlaybookRun:
    """Run a playbook of the collection on two hypervisors: guests of one tell, those of the other refuse and fail."""
    hosts = {
        "hv1": {"qga_sockets": [place.socket("telling-*")]},
        "hv2": {"qga_sockets": [place.socket(f"{kind}-*") for kind in ("refusing", "failing", "twice", "keyed")]},
    }
    inventory = place.directory / "hypervisors.yml"
    inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts}}), encoding="utf-8")
    return run_playbook_of_collection(
        name,
        *arguments,
        inventory=inventory,
        directory=place.written,
        environment=SETTINGS,
        core=place.core,
        on_terminal=True,
    )


def read_back(place: Ground) -> Path:
    """A playbook to which the files of gather_facts are variables of a group and of hosts, and a file of variables."""
    directory = place.directory / "read_back"
    in_group = directory / "inventory" / "group_vars" / "all"
    in_group.mkdir(parents=True)
    files = [place.written / "guest_facts" / f"{name}.json" for name in ("hv1", "hv2")]
    (in_group / "facts.json").write_bytes(files[0].read_bytes())
    # A guest's facts are variables of a host.
    entries = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))["guests"]]
    whole = [entry for entry in entries if "name" in entry.get("os", {})]
    hosts = {f"guest{number}": {"facts": entry} for number, entry in enumerate(whole)}
    (directory / "inventory" / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    seen = ["{{ facts }}", "{{ facts.hostname }} {{ facts.os.name }}", "{{ whole }}"]
    return write_play(
        directory / "play.yml",
        play(
            "all[0]",
            {
                "name": "Show the variables of the group",
                "ansible.builtin.debug": {"msg": "{{ hypervisor }} {{ guests }}"},
            },
            {
                "name": "Read them as a file",
                "ansible.builtin.include_vars": {"file": str(files[1]), "name": "from_file"},
            },
            {"name": "Show what was read", "ansible.builtin.debug": {"var": "from_file"}},
        ),
        play(
            "all",
            {"name": "Join halves", "ansible.builtin.set_fact": {"whole": "{{ facts.os.id }}{{ facts.os.name }}"}},
            {"name": "Show the variables of hosts", "ansible.builtin.debug": {"msg": seen}},
        ),
    )


@pytest.fixture(scope="module")
def acted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Acted]]:
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        wanted = [(core, tmp_path_factory.mktemp(f"core-{core}")) for (core,) in chosen(request, "core")]
        places = [stack.enter_context(ground(core, directory)) for core, directory in wanted]
        yield {done.place.core: done for done in pool.map(act, places)}


every_run = pytest.mark.parametrize("name", RUNS)


def texts_of(place: Ground) -> dict[str, str]:
    """What the guests that tell it are known to say, by its name: bait, but nothing that is none of UTF-8."""
    return {name: text for name, text in baits(place.canaries).items() if name != "surrogates"}


def entries(run: PlaybookRun, task: str) -> dict[str, dict[str, Any]]:
    """What a module returned of each guest, by the guest's name."""
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


# --------------------------------------------------------------------------------------------------- nothing came of it


@every_core
def test_no_word_of_a_guest_is_carried_out(core: str, acted: dict[str, Acted]) -> None:
    assert [path.name for path in acted[core].place.canaries.iterdir()] == []


@every_core
@every_run
def test_a_terminal_is_sent_nothing_that_it_would_obey(core: str, name: str, acted: dict[str, Acted]) -> None:
    output = acted[core].runs[name].output
    assert commands_in(output) == []
    # And what a guest wanted it to obey was there to be seen.
    assert r"\x1b]52;c;cm0gLXJmIC8=" in output


@every_core
@every_run
def test_no_play_fails_by_it(core: str, name: str, acted: dict[str, Acted]) -> None:
    run = acted[core].runs[name]
    meant = {"Fail with all that fail", "Fail with one", "Assert", "Fail", "Fail if guests failed"}
    assert {task.task for task in run.tasks if task.outcome != "ok"} <= meant
    assert run.status == (2 if name == "resync_fleet" else 0), run.output[-3000:]
    assert "Traceback" not in run.output


@every_core
def test_the_bait_is_taken_where_a_text_is_trusted(core: str, tmp_path: Path) -> None:
    """Or these tests would prove nothing."""
    canaries = tmp_path / "canaries"
    canaries.mkdir()
    texts = {name: baits(canaries)[name] for name in ("expression", "statement", "comment", "header", "json")}
    (tmp_path / "texts.json").write_text(json.dumps({f"its_{name}": text for name, text in texts.items()}))
    show = [{"ansible.builtin.debug": {"var": f"its_{name}"}, "ignore_errors": True} for name in texts]
    read = {"ansible.builtin.include_vars": str(tmp_path / "texts.json")}
    playbook = write_play(tmp_path / "play.yml", play("localhost", read, *show))
    output = run_playbook(playbook, environment=SETTINGS, core=core).output
    assert {path.name for path in canaries.iterdir()} == set(texts), output


# ------------------------------------------------------------------------------------------------------ and it was said


@every_core
def test_each_word_is_returned_as_text(core: str, acted: dict[str, Acted]) -> None:
    guests = entries(acted[core].runs["a play"], "Ask all")
    subsets = (
        "hostname",
        "os",
        "timezone",
        "network",
        "routes",
        "filesystems",
        "users",
        "disks",
        "cpu_stats",
        "freeze",
    )
    for name, text in texts_of(acted[core].place).items():
        guest = guests[f"telling-{name}"]
        assert guest["errors"] == {}, guest["errors"]
        assert {word for subset in subsets for word in words(guest[subset])} == {visible(text, LONGEST)}
        assert guest["agent"]["version"] == visible(text)
        assert visible(text) in {command["name"] for command in guest["commands"]}
        assert guest["time"]["source"] == visible(text, LONGEST)


@every_core
def test_each_refusal_is_told_as_text(core: str, acted: dict[str, Acted]) -> None:
    guests = entries(acted[core].runs["a play"], "Ask all")
    for name, text in texts_of(acted[core].place).items():
        for guest in (guests[f"refusing-{name}"], guests[f"failing-{name}"]):
            assert visible(text) in guest["errors"]["os"]["message"]


@every_core
def test_what_is_too_long_is_cut_and_what_is_far_too_long_refused(core: str, acted: dict[str, Acted]) -> None:
    guest = entries(acted[core].runs["a play"], "Ask all")["telling-at-length"]
    assert guest["hostname"].endswith("\u2026")
    assert guest["errors"]["timezone"]["code"] == guest["errors"]["os"]["code"] == "protocol_error"


@every_core
def test_no_fact_has_a_name_that_ansible_obeys(core: str, acted: dict[str, Acted]) -> None:
    guests = entries(acted[core].runs["a play"], "Ask all")
    for key in KEYS:
        guest = guests[f"keyed-{key}"]
        assert guest["errors"]["hostname"]["code"] == guest["errors"]["freeze"]["code"] == "protocol_error"
        assert not {name for name in keys(guest) if "ansible" in name.lower()}


@every_core
def test_the_details_of_a_command_are_text(core: str, acted: dict[str, Acted]) -> None:
    guests = entries(acted[core].runs["a play"], "Ask for details of a command")
    for name, text in texts_of(acted[core].place).items():
        assert guests[f"telling-{name}"]["command"]["description"] == visible(text, LONGEST)


@every_core
def test_clocks_are_right_whatever_their_guests_say(core: str, acted: dict[str, Acted]) -> None:
    place, truths_ns = acted[core].place, acted[core].truths_ns
    names = [f"{kind}-{name}" for kind in ("telling", "refusing") for name in texts_of(place)]
    assert {name for name in names if abs(truths_ns[name]) > SECOND_NS // 10} == set()
    guests = entries(acted[core].runs["a play"], "Set all clocks right")
    for name, text in texts_of(place).items():
        for guest in (guests[f"telling-{name}"], guests[f"refusing-{name}"]):
            assert guest["status"] == "corrected"
            assert any(visible(text) in warning for warning in guest["warnings"])


@every_core
def test_hosts_and_groups_may_bear_such_names(core: str, acted: dict[str, Acted]) -> None:
    place = acted[core].place
    shown = [task.result["msg"] for task in acted[core].runs["a play"].tasks if task.task == "Show who they are"]
    names = {visible(baits(place.canaries)[name], LONGEST) for name in NAMES}
    assert {message.partition(" in [")[0] for message in shown} == names


# --------------------------------------------------------------------------------------------------- in files, and back


@every_core
@pytest.mark.parametrize("file", ["facts.json", "facts.yml", "guest_facts/hv1.json", "guest_facts/hv2.json"])
def test_a_file_of_facts_holds_no_template(core: str, file: str, acted: dict[str, Acted]) -> None:
    # JSON is YAML.
    content = yaml.safe_load((acted[core].place.written / file).read_text(encoding="utf-8"))
    assert not {word for word in words(content) if re.search(r"\{[{%#]|\{$|^#jinja2:", word)}
    assert not {key for key in keys(content) if key.startswith(("_", "ansible"))}
    # And what a guest wanted to be one is there.
    assert any(r"\x7b{ lookup(" in word for word in words(content))


@every_core
def test_what_is_read_back_is_what_was_said(core: str, acted: dict[str, Acted]) -> None:
    place = acted[core].place
    read = acted[core].runs["a play"].result("Show what was read")["msg"]
    said = {visible(text, LONGEST) for text in texts_of(place).values()}
    assert said <= set(read[0])
    facts = acted[core].runs["gather_facts, read back"].result("Show what was read")["from_file"]
    systems = [guest["os"] for guest in facts["guests"] if "twice" in guest["name"]]
    assert [(system["id"], system["name"]) for system in systems] == [
        (visible(first), visible(second)) for first, second in halves(place.canaries).values()
    ]


# ----------------------------------------------------------------------------------------------------------- the report


class Reader(HTMLParser):
    """What of a page is text, and how often each element is there."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, _attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@every_core
def test_the_report_shows_it_as_text(core: str, acted: dict[str, Acted]) -> None:
    place = acted[core].place
    page = Reader((place.written / "resync_fleet.html").read_text(encoding="utf-8"))
    assert (page.tags.count("script"), page.tags.count("img")) == (1, 0)
    for text in texts_of(place).values():
        assert visible(text) in page.text


@every_core
def test_the_summaries_show_it_as_text(core: str, acted: dict[str, Acted]) -> None:
    lines = acted[core].runs["resync_fleet"].result("Tell what came of it")["msg"]
    assert any(r"\x7b{ lookup(" in line for line in lines)
    assert not any(re.search(r"\{[{%#]", line) for line in lines)


# --------------------------------------------------------------------------------------------------------- one restored

# As libvirt's, for a domain that can be restored from its managed save.
VIRSH = """#!/bin/sh
case "$*" in
*dominfo*) printf 'Name: tenant\\nState: shut off\\n' ;;
*domstate*) echo running ;;
esac
"""
# In place of libvirt-python's two modules. The agent of the one domain is reached through what stands in for a daemon.
LIBVIRT = """
import sys
from tests.hostile.libvirt_client import RemoteLibvirt
sys.modules["libvirt"] = sys.modules["libvirt_qemu"] = stand_in = RemoteLibvirt({daemon!r})
stand_in.registerErrorHandler = lambda *_arguments: None
"""


@pytest.mark.parametrize(("speak", "status"), [(refusing, 0), (failing, 2)], ids=["refusing", "failing"])
def test_a_guest_that_is_restored_may_say_what_it_likes(
    speak: Callable[[str], Speech], status: int, tmp_path: Path
) -> None:
    (tmp_path / "canaries").mkdir()
    texts = baits(tmp_path / "canaries")
    text = " ".join(texts[name] for name in ("clipboard", "direction", "lines", "expression"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "virsh").write_text(VIRSH)
    (tmp_path / "bin" / "virsh").chmod(0o755)
    for module in ("libvirt", "libvirt_qemu"):
        (tmp_path / f"{module}.py").write_text(LIBVIRT.format(daemon=str(tmp_path / "libvirt.sock")))
    agent = HostileAgent(Guest(STOCK), speak(text))
    with (
        serving(listen_unix(tmp_path / "agent.sock"), agent),
        Daemon(tmp_path / "libvirt.sock", tmp_path / "agent.sock"),
    ):
        run = run_playbook_of_collection(
            *("restore_guest", "-v", "-e", "qga_domain=tenant qga_managed_save=true qga_wait_timeout=0"),
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

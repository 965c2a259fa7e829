"""Plays on guests that send only bait, which is registered, shown, joined, written to files and read back."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.fakes.agent import serving
from tests.hostile.agent import BEHIND_NS, HostileAgent
from tests.processes.ansible_run import PlaybookRun, Task, play, run_playbook, run_playbook_of_collection, write_play
from tests.processes.socket_server import listen_unix
from tests.support.bait import guests_with

# Ansible's own colors would be terminal commands, too.
SETTINGS = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"}


@dataclass(frozen=True)
class Workspace:
    """The guests of one ansible-core, the directory for canaries, and the directory that plays write to."""

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

    def reset_clocks(self) -> None:
        for agent in self.agents.values():
            agent.clock.step(BEHIND_NS - agent.clock.offset_ns())

    def truths_ns(self) -> dict[str, int]:
        return {name: agent.clock.offset_ns() for name, agent in self.agents.items()}


@contextlib.contextmanager
def workspace(core: str, directory: Path) -> Iterator[Workspace]:
    place = Workspace(core, directory, guests_with(directory / "canaries"))
    for path in (place.canaries, place.written, Path(place.socket()).parent):
        path.mkdir()
    with contextlib.ExitStack() as stack:
        for name, agent in place.agents.items():
            stack.enter_context(serving(listen_unix(Path(place.socket(name))), agent))
        yield place


# Texts that would do harm as the name of a host or a group.
NAMES = ("expression", "headerinoneline", "shell", "screen", "lines", "direction")

NAMED = "fleet.guests | selectattr('hostname', 'defined')"


def task(name: str, module: str, arguments: Any, **other: Any) -> Task:
    collection = "qemu.guest_agent" if module.startswith("qga_") else "ansible.builtin"
    return {"name": name, f"{collection}.{module}": arguments, **other}


def show(name: str, *texts: str, **other: Any) -> Task:
    return task(name, "debug", {"msg": list(texts)}, **other)


def ask(place: Workspace) -> list[Task]:
    everything = {"sockets": [place.socket()], "fail_on": "none"}
    details = {**everything, "sockets": [place.socket("telling-*")], "command": "x"}
    clocks, fails = {**everything, "update_rtc": True}, {"ignore_errors": True}
    failing, failing_one = {"sockets": [place.socket("failing-*")]}, {"socket": place.socket("failing-clipboard")}
    return [
        task("Ask all", "qga_info", everything, register="fleet"),
        task("Ask one", "qga_info", {"socket": place.socket("telling-screen")}, register="one"),
        task("Ask for details of a command", "qga_info", details, register="details"),
        task("Correct all clocks", "qga_update_time", clocks, register="clocks"),
        task("Fail with all that fail", "qga_update_time", failing, register="failed", **fails),
        task("Fail with one", "qga_update_time", failing_one, register="failed_one", **fails),
    ]


def go_on() -> list[Task]:
    """Return tasks that use results on the controller."""
    texts = {"texts": "{{ " + NAMED + " | map(attribute='hostname') | list }}"}
    joined = {
        **texts,
        "joined": "{{ texts | join(' ') }} {{ failed.msg }} {{ failed_one.guest.error.message }}",
        # One half of each text is the ID of a system, the other half its name.
        "whole": "{{ in_two | map(attribute='id') | zip(in_two | map(attribute='name')) | map('join') | list }}",
    }
    in_two = "{{ fleet.guests | selectattr('name', 'search', 'twice') | map(attribute='os') | list }}"
    each = "{{ item.hostname }} runs {{ item.os.pretty_name }}, {{ item.os | to_json }}"
    each_one = {
        "loop": "{{ " + NAMED + " | selectattr('os.pretty_name', 'defined') | list }}",
        "loop_control": {"label": "{{ item.hostname }}"},
        "when": ["item.hostname != 'web1'", "item.os.pretty_name is not search('web1')"],
    }
    elsewhere = {"delegate_to": "other", "delegate_facts": True}
    wrong = {"that": ["texts | length < 3"], "fail_msg": "Wrong: {{ again }}"}
    return [
        *(task(f"Show {name}", "debug", {"var": name}) for name in ("fleet.guests", "one", "details")),
        task("Join", "set_fact", joined, vars={"in_two": in_two, **texts}),
        task("Join again", "set_fact", {"again": "{{ joined }}{{ whole | join(' ') }}"}),
        task("Nest", "set_fact", {"nested": "{{ {'a': [again], 'b': texts, 'c': whole} }}"}),
        show("Show joined text", "{{ again }}", "{{ nested }}", "{{ nested.c[0] }}"),
        task("Loop over guests", "debug", {"msg": each}, **each_one),
        task("Assert", "assert", wrong, ignore_errors=True),
        task("Fail", "fail", {"msg": "{{ failed.guests }} {{ again }}"}, ignore_errors=True),
        task("Run a program", "command", {"argv": ["echo", "{{ again }}"]}, changed_when=False),
        task("Run a shell", "shell", "echo {{ again | quote }}", changed_when=False),
        task("Delegate", "set_fact", {"elsewhere": "{{ again }}"}, **elsewhere),
        show("Show what was delegated", "{{ hostvars['other'].elsewhere }}"),
    ]


def keep(place: Workspace) -> list[Task]:
    in_json, in_yaml, in_text = (str(place.written / f"facts.{kind}") for kind in ("json", "yml", "txt"))
    as_json = "{{ {'kept': texts, 'kept_again': again, 'kept_whole': whole} | to_nice_json | string }}"
    as_yaml = "{{ {'kept_as_yaml': texts + whole + [again]} | to_nice_yaml(width=99999) | string }}"
    looked_up = {"looked_up": "{{ lookup('file', '" + in_json + "') | from_json }}"}
    return [
        task("Write JSON", "copy", {"content": as_json, "dest": in_json}),
        task("Write YAML", "copy", {"content": as_yaml, "dest": in_yaml}),
        task("Fill in a template", "template", {"src": "facts.j2", "dest": in_text}),
        task("Read JSON back", "include_vars", in_json),
        task("Read YAML back", "include_vars", in_yaml),
        show("Show what was read", *(f"{{{{ kept{part} }}}}" for part in ("", "_again", "_whole", "_as_yaml"))),
        task("Join what was read", "set_fact", {"joined_again": "{{ kept | join('') }}{{ kept_whole | join('') }}"}),
        show("Show what was looked up", "{{ looked_up }}", "{{ joined_again }}", vars=looked_up),
    ]


def name_hosts(place: Workspace) -> list[Task]:
    named = {
        "loop": "{{ fleet.guests | selectattr('name', 'in', named) | list }}",
        "vars": {"named": [place.socket(f"telling-{name}") for name in NAMES]},
    }
    host = {"name": "{{ item.hostname }}", "groups": ["made"], "os_name": "{{ item.os.name }}", "facts": "{{ item }}"}
    return [
        task("Add hosts", "add_host", host, **named),
        task("Group hosts", "group_by", {"key": "os_{{ item.hostname }}"}, **named),
    ]


def of_hosts() -> list[Task]:
    line = "{{ inventory_hostname }} in {{ group_names }}: {{ os_name }}, {{ hostvars[inventory_hostname].os_name }}"
    return [
        task("Show hosts", "debug", {"msg": line}),
        task("Store facts", "set_fact", {"kept": "{{ inventory_hostname }}{{ facts.os }}"}),
        show("Show what was kept", "{{ kept }} {{ groups }} {{ facts }}"),
    ]


OWN_PLAYS = ("a play", "a play, with -vvv")
RUNS = (*OWN_PLAYS, "gather_facts", "gather_facts, read back", "resync_fleet")


@dataclass(frozen=True)
class Acted:
    """The runs of one ansible-core on its guests. ``truths_ns`` are the offsets of the clocks after it set them."""

    place: Workspace
    runs: Mapping[str, PlaybookRun]
    truths_ns: Mapping[str, int]


def act(place: Workspace) -> Acted:
    first = (*ask(place), *go_on())
    whole = play("localhost", *first, *keep(place), *name_hosts(place))
    playbooks = (
        write_play(place.directory / "play.yml", whole, play("made", *of_hosts())),
        write_play(place.directory / "verbose.yml", play("localhost", *first)),
    )
    (place.directory / "facts.j2").write_text("{% for guest in fleet.guests %}{{ guest }} {% endfor %}{{ again }}\n")
    run = partial(run_playbook, environment=SETTINGS, core=place.core, on_terminal=True)
    runs = {}
    for name, playbook, verbosity in zip(OWN_PLAYS, playbooks, ([], ["-vvv"]), strict=True):
        place.reset_clocks()
        runs[name] = run(playbook, "-i", "other,", "--diff", *verbosity)
    # Errors in place of facts are in the other runs.
    facts = {"qga_gather_subset": ["all"], "qga_exclude": ["refusing-*"]}
    runs["gather_facts"] = of_collection("gather_facts", place, "-e", json.dumps(facts), "--diff", "-v")
    back = read_back(place)
    runs["gather_facts, read back"] = run(back, "-i", str(back.with_name("inventory")), "--limit", "!localhost")
    place.reset_clocks()
    runs["resync_fleet"] = of_collection("resync_fleet", place, "-e", "qga_update_rtc=true", "-v")
    return Acted(place, runs, place.truths_ns())


def of_collection(name: str, place: Workspace, *arguments: str) -> PlaybookRun:
    """Run a playbook of the collection on two hypervisors: one with guests that report, one with those that fail."""
    hosts = {
        "hv1": {"qga_sockets": [place.socket("telling-*")]},
        "hv2": {"qga_sockets": [place.socket(f"{kind}-*") for kind in ("refusing", "failing", "twice", "keyed")]},
    }
    inventory = place.directory / "hypervisors.yml"
    inventory.write_text(yaml.safe_dump({"hypervisors": {"hosts": hosts}}), encoding="utf-8")
    settings = {"environment": SETTINGS, "core": place.core, "on_terminal": True}
    return run_playbook_of_collection(name, *arguments, inventory=inventory, directory=place.written, **settings)


def read_back(place: Workspace) -> Path:
    """Return a playbook that reads files of gather_facts as group variables, host variables and a variables file."""
    directory = place.directory / "read_back"
    in_group = directory / "inventory" / "group_vars" / "all"
    in_group.mkdir(parents=True)
    files = [place.written / "guest_facts" / f"{name}.json" for name in ("hv1", "hv2")]
    (in_group / "facts.json").write_bytes(files[0].read_bytes())
    # The facts of each guest become the variables of a host.
    entries = [entry for file in files for entry in json.loads(file.read_text(encoding="utf-8"))["guests"]]
    whole = [entry for entry in entries if "name" in entry.get("os", {})]
    hosts = {f"guest{number}": {"facts": entry} for number, entry in enumerate(whole)}
    (directory / "inventory" / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    from_file = {"file": str(files[1]), "name": "from_file"}
    return write_play(
        directory / "play.yml",
        play(
            "all[0]",
            show("Show the variables of the group", "{{ hypervisor }} {{ guests }}"),
            task("Read a file", "include_vars", from_file),
            task("Show what was read", "debug", {"var": "from_file"}),
        ),
        play(
            "all",
            task("Join halves", "set_fact", {"whole": "{{ facts.os.id }}{{ facts.os.name }}"}),
            show(
                "Show the variables of hosts", "{{ facts }}", "{{ facts.hostname }} {{ facts.os.name }}", "{{ whole }}"
            ),
        ),
    )

"""Inventories of guests that report templates and terminal commands as bait: none is executed, however it is used.

test_untrusted_text.py shows that the same bait is executed if the text is trusted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.fakes.hypervisors import baited, lay_out
from tests.processes.ansible_run import CORES, NEWEST, PlaybookRun, play, run_playbook, write_play
from tests.processes.inventory_run import InventoryRun, configured, run_inventory, settings
from tests.support.bait import KEYS, baits
from tests.support.terminal import commands_in

CACHED = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile"}
MADE: dict[str, Any] = {
    "gather_subset": ["min", "network", "users"],
    "compose": {
        "system": "qga_os",
        "joined": "qga_os.id ~ qga_os.name ~ ' ' ~ qga_hostname",
        "lists": "[qga_hostname, qga_network]",
        "first": "qga_network[0].name",
        "listed": "qga_os.id.split(' ')",
    },
    "groups": {"reported": "qga_hostname is defined", "bait": "'lookup' in qga_hostname"},
    "keyed_groups": [
        {"key": "qga_hostname", "prefix": "host"},
        {"key": "qga_os.id", "separator": "", "parent_group": "systems"},
        {"key": "qga_os", "prefix": "pair"},
    ],
    "filters": [{"include": "qga_os.id == 'debian'"}, {"exclude": "qga_hostname == 'nobody'"}],
    "connection": "none",
}


@dataclass(frozen=True)
class Acted:
    """The runs of one ansible-core: inventory lists, of which only the first is not from the cache, and plays."""

    directory: Path
    is_inert: bool
    lists: tuple[InventoryRun, ...]
    plays: tuple[PlaybookRun, ...]


NAMED = ("expression", "headerinoneline", "nested", "json")

# All but what is the same for all hosts, such as the groups, which would make it long.
SHOWN = ("qga_name", "qga_hostname", "qga_os", "qga_network", "qga_error", "qga_errors", "system", "joined", "lists")


def show(directory: Path) -> Path:
    """Write a playbook that shows and joins the variables of hosts, and uses them in a template."""
    shown = f"hostvars[item] | dict2items | selectattr('key', 'in', {list(SHOWN)})"
    loop = {"loop": "{{ groups['all'] }}", "loop_control": {"label": ""}}
    kept = "{{ groups['all'] | map('extract', hostvars, 'qga_os') | select('defined') | list }}"
    in_each = (
        "{% for item in groups['all'] %}{{ " + shown + " }}{{ hostvars[item].qga_hostname | default }}{% endfor %}"
    )
    (directory / "all.j2").write_text(in_each + "\n{{ kept }}\n", encoding="utf-8")
    here = [
        {"name": "Show each", "ansible.builtin.debug": {"msg": "{{ " + shown + " }}"}, **loop},
        {"name": "Show its name", "ansible.builtin.debug": {"msg": "{{ item }} {{ hostvars[item].joined | default }}"}}
        | loop,
        {"name": "Keep", "ansible.builtin.set_fact": {"kept": kept}},
        {"name": "Show what was kept", "ansible.builtin.debug": {"msg": "{{ kept }} {{ groups }}"}},
        {"name": "Fill in", "ansible.builtin.template": {"src": "all.j2", "dest": str(directory / "all.txt")}},
    ]
    text = "{{ inventory_hostname }} {{ qga_os }} {{ joined }} {{ lists }} {{ first }} {{ system }}"
    there = [
        {"name": "Show by name", "ansible.builtin.debug": {"var": "qga_hostname"}},
        {"name": "Show all", "ansible.builtin.debug": {"msg": "{{ hostvars[inventory_hostname] }}"}},
        {"name": "Show as text", "ansible.builtin.debug": {"msg": text}},
        {"name": "Keep", "ansible.builtin.set_fact": {"again": "{{ joined }}{{ qga_os.id }}{{ qga_os.name }}"}},
        {"name": "Show what was kept", "ansible.builtin.debug": {"msg": "{{ again }} {{ group_names }}"}},
        {"name": "Run it", "ansible.builtin.command": {"argv": ["echo", "{{ again }}"]}, "changed_when": False},
    ]
    names = [*(f"telling-{name}" for name in NAMED), "twice-halves", "twice-halvesofheader"]
    return write_play(directory / "play.yml", play("localhost", *here), play(",".join(names), *there))


def act(core: str, is_inert: bool, directory: Path) -> Acted:
    (directory / "canaries").mkdir()
    stand_in = lay_out(directory / "stand-in", baited, str(directory / "canaries"), is_inert)
    source = configured(directory, **MADE, **CACHED, cache_connection=str(directory / "cache"))
    playbook = show(directory)

    def run_play() -> PlaybookRun:
        return run_playbook(
            playbook, "-i", str(source), "--diff", "-v", environment=settings(stand_in), core=core, on_terminal=True
        )

    ways = [["--list"], ["--list"], *([["--graph", "--vars"], ["--list", "--yaml"]] if is_inert else [])]
    lists = [run_inventory(source, stand_in, *way, core=core) for way in ways]
    plays = [run_play()]  # from the cache
    if not is_inert:
        for kept in (directory / "cache").iterdir():
            kept.unlink()
        plays.append(run_play())
    return Acted(directory, is_inert, tuple(lists), tuple(plays))


def which(core: str, is_inert: bool) -> Any:
    is_thorough = core != NEWEST or not is_inert
    name = f"{core}, {'all layers' if is_inert else 'marks of Ansible alone'}"
    return pytest.param((core, is_inert), id=name, marks=[pytest.mark.thorough] if is_thorough else [])


@pytest.fixture(scope="module", params=[which(core, is_inert) for core in CORES for is_inert in (True, False)])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Acted:
    return act(*request.param, tmp_path_factory.mktemp("bait"))


class TestBait:
    def test_no_text_of_a_guest_is_executed(self, done: Acted) -> None:
        assert [path.name for path in (done.directory / "canaries").iterdir()] == []

    def test_no_run_fails_because_of_it(self, done: Acted) -> None:
        assert [run.status for run in done.lists] == [0] * len(done.lists), done.lists[0].said
        for run in done.plays:
            assert run.status == 0, run.output[-3000:]
            assert {task.outcome for task in run.tasks} == {"ok"}

    def test_a_terminal_gets_no_commands(self, done: Acted) -> None:
        for text in (*(run.output + run.said for run in done.lists), *(run.output for run in done.plays)):
            assert commands_in(text) == []

    def test_groups_have_names_of_letters_digits_and_underscores(self, done: Acted) -> None:
        run = done.lists[0]
        # Ansible allows all letters of Unicode.
        assert {name for name in run.groups if not re.fullmatch(r"\w+", name)} == set()
        assert run.group("bait")
        assert any("lookup" in name for name in run.groups)

    def test_each_text_is_kept_as_text(self, done: Acted) -> None:
        hosts = done.lists[0].hosts
        for name, text in baits(done.directory / "canaries").items():
            if name == "surrogates":
                continue
            host = hosts[f"telling-{name}"]
            assert host["qga_errors"] == {}
            assert host["qga_hostname"] == host["qga_os"]["id"] == host["qga_network"][0]["name"]
            assert not done.is_inert or host["qga_hostname"] == visible(text, 4096)
            assert "ansible_host" not in host
            assert "qga_address" not in host
            assert host["system"] == host["qga_os"]
            if name not in ("list", "dict", "json", "empty", "unbalanced"):
                assert host["first"] == host["qga_hostname"]
        assert ("{{ lookup" in hosts["telling-expression"]["qga_hostname"]) is not done.is_inert

    def test_the_cache_returns_the_same_hosts_and_groups(self, done: Acted) -> None:
        queried, cached = done.lists[:2]
        # Before ansible-core 2.19, its caches sort their content.
        assert cached.hosts == queried.hosts
        assert {name: cached.group(name) for name in cached.groups} == {
            name: queried.group(name) for name in queried.groups
        }

    def test_only_a_valid_address_is_chosen(self, done: Acted) -> None:
        assert done.lists[0].hosts["addressed"]["qga_address"] == "10.1.0.9"

    def test_no_fact_sets_a_connection_variable(self, done: Acted) -> None:
        for key in KEYS:
            named = {name for name in _keys(done.lists[0].hosts[f"keyed-{key}"]) if "ansible" in name.lower()}
            assert named == {"ansible_qga_domain", "ansible_qga_uri"}  # the plugin sets these


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | _keys(list(value.values()))
    return {key for item in value for key in _keys(item)} if isinstance(value, list) else set()

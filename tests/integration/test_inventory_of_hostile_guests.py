"""Inventories of guests whose words are bait: none is carried out, wherever it is shown, joined or kept.

That the bait would be taken where a text is trusted is shown by test_untrusted_text.py.
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
    "groups": {"told": "qga_hostname is defined", "bait": "'lookup' in qga_hostname"},
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
    """What one ansible-core made of the guests' words: lists, of which the first is of what they told and the others
    are of what was kept of it, and plays.
    """

    directory: Path
    is_inert: bool
    lists: tuple[InventoryRun, ...]
    plays: tuple[PlaybookRun, ...]


NAMED = ("expression", "headerinoneline", "nested", "json")

# All but what is the same for all hosts, such as the groups, which would make it long.
TOLD = ("qga_name", "qga_hostname", "qga_os", "qga_network", "qga_error", "qga_errors", "system", "joined", "lists")


def show(directory: Path) -> Path:
    """A playbook that shows what there is of hosts, joins it, and fills in a template."""
    told = f"hostvars[item] | dict2items | selectattr('key', 'in', {list(TOLD)})"
    loop = {"loop": "{{ groups['all'] }}", "loop_control": {"label": ""}}
    kept = "{{ groups['all'] | map('extract', hostvars, 'qga_os') | select('defined') | list }}"
    in_each = "{% for item in groups['all'] %}{{ " + told + " }}{{ hostvars[item].qga_hostname | default }}{% endfor %}"
    (directory / "all.j2").write_text(in_each + "\n{{ kept }}\n", encoding="utf-8")
    here = [
        {"name": "Show each", "ansible.builtin.debug": {"msg": "{{ " + told + " }}"}, **loop},
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
    def test_no_word_of_a_guest_is_carried_out(self, done: Acted) -> None:
        assert [path.name for path in (done.directory / "canaries").iterdir()] == []

    def test_no_run_fails_by_it(self, done: Acted) -> None:
        assert [run.status for run in done.lists] == [0] * len(done.lists), done.lists[0].said
        for run in done.plays:
            assert run.status == 0, run.output[-3000:]
            assert {task.outcome for task in run.tasks} == {"ok"}

    def test_a_terminal_is_sent_nothing_that_it_would_obey(self, done: Acted) -> None:
        for text in (*(run.output + run.said for run in done.lists), *(run.output for run in done.plays)):
            assert commands_in(text) == []

    def test_groups_have_names_of_letters_digits_and_underscores(self, done: Acted) -> None:
        run = done.lists[0]
        # Ansible takes any letters.
        assert {name for name in run.groups if not re.fullmatch(r"\w+", name)} == set()
        assert run.group("bait")
        assert any("lookup" in name for name in run.groups)

    def test_each_word_is_there_as_text(self, done: Acted) -> None:
        hosts = done.lists[0].hosts
        for name, text in baits(done.directory / "canaries").items():
            if name == "surrogates":
                continue
            told = hosts[f"telling-{name}"]
            assert told["qga_errors"] == {}
            assert told["qga_hostname"] == told["qga_os"]["id"] == told["qga_network"][0]["name"]
            assert not done.is_inert or told["qga_hostname"] == visible(text, 4096)
            assert "ansible_host" not in told
            assert "qga_address" not in told
            assert told["system"] == told["qga_os"]
            if name not in ("list", "dict", "json", "empty", "unbalanced"):
                assert told["first"] == told["qga_hostname"]
        assert ("{{ lookup" in hosts["telling-expression"]["qga_hostname"]) is not done.is_inert

    def test_the_cache_gives_back_the_same(self, done: Acted) -> None:
        told, kept = done.lists[:2]
        # Before ansible-core 2.19, its caches sort what they keep.
        assert kept.hosts == told.hosts
        assert {name: kept.group(name) for name in kept.groups} == {name: told.group(name) for name in told.groups}

    def test_only_an_address_is_taken_for_one(self, done: Acted) -> None:
        assert done.lists[0].hosts["addressed"]["qga_address"] == "10.1.0.9"

    def test_no_variable_has_a_name_that_ansible_obeys(self, done: Acted) -> None:
        for key in KEYS:
            named = {name for name in _keys(done.lists[0].hosts[f"keyed-{key}"]) if "ansible" in name.lower()}
            assert named == {"ansible_qga_domain", "ansible_qga_uri"}  # which no guest has a part in


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | _keys(list(value.values()))
    return {key for item in value for key in _keys(item)} if isinstance(value, list) else set()

"""Inventories of guests whose words are bait: none is carried out, wherever it is shown, joined or kept."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.fakes.hypervisors import baited, lay_out
from tests.processes.ansible_run import CORES, PlaybookRun, every_core, run_playbook
from tests.processes.inventory_run import InventoryRun, configured, run_inventory, settings
from tests.support.bait import KEYS, baits
from tests.support.terminal import commands_in
from tests.support.tiers import chosen

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
    lists: tuple[InventoryRun, ...]
    plays: tuple[PlaybookRun, ...]

    @property
    def canaries(self) -> list[str]:
        return [path.name for path in (self.directory / "canaries").iterdir()]


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
    common = {"gather_facts": False, "connection": "local"}
    plays = [{"hosts": "localhost", "tasks": here}, {"hosts": ",".join(names), "tasks": there}]
    playbook = directory / "play.yml"
    playbook.write_text(yaml.safe_dump([{**common, **each} for each in plays], width=1000), encoding="utf-8")
    return playbook


def act(core: str, directory: Path, is_inert: bool) -> Acted:
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
    return Acted(directory, tuple(lists), tuple(plays))


@pytest.fixture(scope="module")
def acted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Acted]:
    which = {each: tmp_path_factory.mktemp("bait") for each in chosen(request, "core", "is_inert")}

    def run(each: tuple[str, bool]) -> Acted:
        core, is_inert = each
        return act(core, which[each], is_inert)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(which, pool.map(run, which), strict=True))


every_layer = pytest.mark.parametrize(
    "is_inert",
    [
        pytest.param(True, id="all layers"),
        pytest.param(False, id="Ansible's marks alone", marks=pytest.mark.thorough),
    ],
)


@every_core
@every_layer
class TestBait:
    def test_no_word_of_a_guest_is_carried_out(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        assert acted[core, is_inert].canaries == []

    def test_no_run_fails_by_it(self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]) -> None:
        done = acted[core, is_inert]
        assert [run.status for run in done.lists] == [0] * len(done.lists), done.lists[0].said
        for play in done.plays:
            assert play.status == 0, play.output[-3000:]
            assert {task.outcome for task in play.tasks} == {"ok"}

    def test_a_terminal_is_sent_nothing_that_it_would_obey(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        done = acted[core, is_inert]
        for text in (*(run.output + run.said for run in done.lists), *(play.output for play in done.plays)):
            assert commands_in(text) == []

    def test_groups_have_names_of_letters_digits_and_underscores(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        run = acted[core, is_inert].lists[0]
        # Ansible takes any letters.
        assert {name for name in run.groups if not re.fullmatch(r"\w+", name)} == set()
        assert run.group("bait")
        assert any("lookup" in name for name in run.groups)

    def test_each_word_is_there_as_text(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        done = acted[core, is_inert]
        texts = baits(done.directory / "canaries")
        hosts = done.lists[0].hosts
        shown = {
            name: visible(text, 4096) if is_inert else None for name, text in texts.items() if name != "surrogates"
        }
        for name, text in shown.items():
            told = hosts[f"telling-{name}"]
            assert told["qga_errors"] == {}
            assert told["qga_hostname"] == told["qga_os"]["id"] == told["qga_network"][0]["name"]
            assert text is None or told["qga_hostname"] == text
            assert "ansible_host" not in told
            assert "qga_address" not in told
            assert told["system"] == told["qga_os"]
            if name not in ("list", "dict", "json", "empty", "unbalanced"):
                assert told["first"] == told["qga_hostname"]
        assert ("{{ lookup" in hosts["telling-expression"]["qga_hostname"]) is not is_inert

    def test_what_is_read_from_the_cache_is_what_was_told(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        told, kept = acted[core, is_inert].lists[:2]
        # Before ansible-core 2.19, its caches sort what they keep.
        assert kept.hosts == told.hosts
        assert {name: kept.group(name) for name in kept.groups} == {name: told.group(name) for name in told.groups}

    def test_only_an_address_is_taken_for_one(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        assert acted[core, is_inert].lists[0].hosts["addressed"]["qga_address"] == "10.1.0.9"

    def test_no_variable_has_a_name_that_ansible_obeys(
        self, core: str, is_inert: bool, acted: Mapping[tuple[str, bool], Acted]
    ) -> None:
        hosts = acted[core, is_inert].lists[0].hosts
        for key in KEYS:
            named = {name for name in _keys(hosts[f"keyed-{key}"]) if "ansible" in name.lower()}
            assert named == {"ansible_qga_domain", "ansible_qga_uri"}  # which no guest has a part in


def _keys(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | _keys(list(value.values()))
    return {key for item in value for key in _keys(item)} if isinstance(value, list) else set()


@every_core
def test_the_bait_is_taken_where_a_text_is_trusted(core: str, tmp_path: Path) -> None:
    """Or these tests would prove nothing."""
    (tmp_path / "canaries").mkdir()
    text = baits(tmp_path / "canaries")["expression"]
    source = tmp_path / "hosts.yml"
    source.write_text(yaml.safe_dump({"all": {"hosts": {"web1": {"qga_hostname": text}}}}), encoding="utf-8")
    playbook = tmp_path / "play.yml"
    task = {"ansible.builtin.debug": {"var": "qga_hostname"}}
    playbook.write_text(
        yaml.safe_dump([{"hosts": "all", "gather_facts": False, "connection": "local", "tasks": [task]}])
    )
    subprocess.run(
        [CORES[core] / "ansible-playbook", "-i", source, playbook], env=os.environ, capture_output=True, check=True
    )
    assert [path.name for path in (tmp_path / "canaries").iterdir()] == ["expression"]

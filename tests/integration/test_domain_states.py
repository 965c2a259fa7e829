"""Domains in every state: the modules give the same error and the same commands for every way of naming a domain."""

from __future__ import annotations

import re
import shlex

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections

from tests.fakes.domains import Definition
from tests.fakes.libvirt import FakeHypervisor
from tests.fakes.libvirt_replies import agent_returns
from tests.hostile import worker
from tests.hostile.case import Case

THERE = "qemu+tls://hv2/system"
# The virsh commands that make a domain run again, by virDomainState, or None if its agent can be used.
COMMANDS: dict[int, list[str] | None] = {
    0: ["domstate", "start"],
    1: None,
    2: None,
    3: ["resume"],
    4: [],
    5: ["start"],
    6: ["reset", "destroy", "start"],
    7: ["dompmwakeup"],
}


@pytest.mark.parametrize("state", COMMANDS)
@pytest.mark.parametrize("name", ["web1", "my web", "it's web1", "$(reboot); web1"])
@pytest.mark.parametrize("how", ["one", "by name", "by pattern"])
def test_a_domain_runs_or_the_commands_of_the_hint_can_be_copied_to_a_shell(
    how: str, name: str, state: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = agent_returns({"version": "10.0", "supported_commands": []})
    fake = FakeHypervisor([Definition(name, state=state, agent=facts)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    named = {"one": {"domain": name}, "by name": {"domains": [name]}, "by pattern": {"domains": ["*web*"]}}[how]
    verdict = worker.run(Case("qga_info", {"gather_subset": ["agent"], "fail_on": "none", "uri": THERE, **named}))
    assert verdict.result is not None
    (entry,) = [verdict.result["guest"]] if how == "one" else verdict.result["guests"]
    commands = COMMANDS[state]
    if commands is None:
        assert entry["status"] == "gathered"
        assert entry["agent"]["version"] == "10.0"
        return
    assert entry["status"] == ("skipped" if how == "by pattern" else "failed")
    error = entry.get("error", entry.get("reason"))
    assert error["code"] == "not_running"
    shown = [shlex.split(words) for words in re.findall("`(.*?)`", error["hint"])]
    assert [(words[:3], words[3], words[-1]) for words in shown] == [
        (["virsh", "-c", THERE], command, name) for command in commands
    ]

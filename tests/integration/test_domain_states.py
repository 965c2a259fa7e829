"""Whether a domain runs, to the modules, and what to run if it does not: the same whichever option names it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections

from tests.fakes.domains import Definition
from tests.fakes.libvirt import FakeHypervisor
from tests.hostile import worker
from tests.hostile.case import Case

# virDomainState, and whether its agent can be asked.
STATES = {0: False, 1: True, 2: True, 3: False, 4: False, 5: False, 6: False, 7: False}


def _facts(_request: dict[str, Any]) -> str:
    return '{"return": {"version": "10.0", "supported_commands": []}}'


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "named", [{"domain": "web1"}, {"domains": ["web1"]}, {"domains": ["web*"]}], ids=["one", "by name", "by pattern"]
)
def test_however_a_domain_is_named_it_runs_or_does_not(
    named: dict[str, Any], state: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHypervisor([Definition("web1", state=state, agent=_facts)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    verdict = worker.run(Case("qga_info", {"gather_subset": ["agent"], "fail_on": "none", **named}))
    assert verdict.result is not None
    (entry,) = verdict.result["guests"]
    if STATES[state]:
        assert entry["status"] == "gathered"
        assert entry["agent"]["version"] == "10.0"
    else:
        assert entry["status"] == ("skipped" if named.get("domains") == ["web*"] else "failed")
        assert entry.get("error", entry.get("reason"))["code"] == "not_running"


THERE = "qemu+tls://hv2/system"
NAMES = ("my web", "it's web1", "web1; reboot", "$(reboot)")
# By virDomainState, what virsh takes to have a domain run again.
COMMANDS = {3: ["resume"], 5: ["start"], 6: ["reset", "destroy", "start"], 7: ["dompmwakeup"]}


@pytest.mark.parametrize("state", COMMANDS)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["domain", "domains"])
def test_the_commands_of_a_hint_can_be_run_as_they_stand(
    option: str, name: str, state: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeHypervisor([Definition(name, state=state, agent=_facts)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    arguments = {"uri": THERE, option: [name] if option == "domains" else name}
    verdict = worker.run(Case("qga_info", {"gather_subset": ["agent"], "fail_on": "none", **arguments}))
    assert verdict.result is not None
    (entry,) = verdict.result["guests"]
    assert entry["error"]["code"] == "not_running"
    shown = [shlex.split(words) for words in re.findall("`(.*?)`", entry["error"]["hint"])]
    assert shown == [["virsh", "-c", THERE, command, name] for command in COMMANDS[state]]


@pytest.mark.parametrize("option", ["domain", "domains"])
def test_a_domain_that_is_shutting_down_needs_no_command(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHypervisor([Definition("my web", state=4)])
    monkeypatch.setattr(connections, "import_libvirt", fake.modules)
    arguments = {option: ["my web"] if option == "domains" else "my web"}
    verdict = worker.run(Case("qga_info", {"gather_subset": ["agent"], "fail_on": "none", **arguments}))
    assert verdict.result is not None
    (entry,) = verdict.result["guests"]
    assert "`" not in entry["error"]["hint"]
    assert entry["error"]["hint"].startswith("Wait until it has shut down")

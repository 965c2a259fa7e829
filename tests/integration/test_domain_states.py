# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a domain runs, to the modules: the same whichever option names it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils.channels import hypervisor

from tests.hostile import victim
from tests.hostile.case import Case
from tests.support.fake_hypervisor import Definition, FakeHypervisor

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
    monkeypatch.setattr(hypervisor, "import_libvirt", fake.modules)
    verdict = victim.run(Case("qga_info", {"gather_subset": ["agent"], "fail_on": "none", **named}))
    assert verdict.result is not None
    (entry,) = verdict.result["guests"]
    if STATES[state]:
        assert entry["status"] == "gathered"
        assert entry["agent"]["version"] == "10.0"
    else:
        assert entry["status"] == ("skipped" if named.get("domains") == ["web*"] else "failed")
        assert entry.get("error", entry.get("reason"))["code"] == "not_running"

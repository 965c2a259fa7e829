"""The playbook restore_guest with invalid variables. tests/vm restores real guests."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.processes.ansible_run import every_core, run_playbook_of_collection

HYPERVISORS = "No hypervisor given: the inventory has no host in the group 'hypervisors'. Pass -e qga_hosts=NAME."
GUEST = {"qga_hosts": "hv1", "qga_domain": "web1"}


@every_core
@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"qga_domain": "web1", "qga_snapshot": "calm"}, HYPERVISORS),
        ({"qga_hosts": "hv1"}, "No guest given. Pass -e qga_domain=NAME."),
        (GUEST, "No source given for 'web1'. Set one of qga_save_file, qga_managed_save and qga_snapshot."),
        (
            {**GUEST, "qga_managed_save": "true", "qga_snapshot": "calm"},
            "More than one source given for 'web1'. Set only one of qga_managed_save and qga_snapshot.",
        ),
        (
            {**GUEST, "qga_hosts": "all", "qga_snapshot": "calm"},
            "More than one hypervisor given for 'web1': 2 hosts. Pass -e qga_hosts=NAME.",
        ),
    ],
    ids=["no hypervisor", "no guest", "no source", "two sources", "two hypervisors"],
)
def test_invalid_variables_fail_the_run_with_one_sentence(
    variables: Mapping[str, str], message: str, core: str
) -> None:
    given = (argument for item in variables.items() for argument in ("-e", "=".join(item)))
    run = run_playbook_of_collection("restore_guest", *given, inventory="hv1,hv2", core=core)
    assert run.status == 2
    assert run.result("Validate variables")["msg"] == message

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.codes import HINTS
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.links import troubleshooting
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import read_fleet


@pytest.mark.parametrize("code", HINTS)
def test_each_code_has_a_hint_and_a_section(code: str) -> None:
    assert HINTS[code]
    assert troubleshooting(code)


def test_a_result_that_cannot_be_read_has_the_hint() -> None:
    wrong, guests, strange = read_fleet([5, {"host": "hv1", "guests": 5}, {"host": "hv2", "guests": [{}]}])
    for problem in (wrong.problem, guests.problem, strange.guests[0].problem):
        assert problem is not None
        assert (problem.code, problem.hint) == ("unreadable_result", HINTS["unreadable_result"])

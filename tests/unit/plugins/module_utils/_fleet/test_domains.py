from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotFoundError, NotRunningError
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.domains import guest_of, select_domains
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.selection import Candidate, Selected
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor import connections as module
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Hypervisor
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.domains import Domain
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

from tests.fakes.domains import RUNNING, SHUT_OFF, uuid_of
from tests.fakes.libvirt import FakeHypervisor

WEB1, WEB2, DB1 = (Domain(name, uuid_of(name), RUNNING) for name in ("web1", "web2", "db1"))


@pytest.fixture
def hypervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hypervisor]:
    monkeypatch.setattr(module, "import_libvirt", FakeHypervisor().modules)
    made = Hypervisor("qemu:///system")
    yield made
    made.close()


def test_domains_are_chosen_by_name_uuid_and_pattern() -> None:
    selection = select_domains([WEB1, WEB2, DB1], ["web*", uuid_of("db1").upper(), "nosuch", "x*"], ["web2"])
    assert [selected.name for selected in selection.guests] == ["web1", "db1", "nosuch"]
    assert selection.unmatched == ("x*",)


def test_one_that_runs_is_reached_through_one_of_the_hypervisors_lines(hypervisor: Hypervisor) -> None:
    selected = Selected("web1", Candidate("web1", WEB1.uuid), True)
    guest = guest_of(selected, WEB1, hypervisor, Limits(), is_optional=True)
    assert (guest.name, guest.uuid, guest.is_optional, guest.problem) == ("web1", WEB1.uuid, True, None)
    assert str(guest.open()) == "domain web1 at qemu:///system"


def test_one_that_is_not_there_or_does_not_run_has_a_problem(hypervisor: Hypervisor) -> None:
    absent = guest_of(Selected("web1", None, True), None, hypervisor, Limits(), is_optional=False)
    assert isinstance(absent.problem, NotFoundError)
    assert "`virsh list --all`" in absent.problem.hint
    assert absent.uuid is None
    off = guest_of(
        Selected("web1", Candidate("web1", WEB1.uuid), False), WEB1._replace(state=SHUT_OFF), hypervisor, Limits(), True
    )
    assert isinstance(off.problem, NotRunningError)
    assert off.problem.hint.startswith("Run `virsh start web1` first;")


@pytest.mark.parametrize("state", range(9))
def test_one_that_runs_or_is_blocked_has_none(hypervisor: Hypervisor, state: int) -> None:
    selected = Selected("web1", Candidate("web1", WEB1.uuid), False)
    guest = guest_of(selected, WEB1._replace(state=state), hypervisor, Limits(), is_optional=True)
    assert (guest.problem is None) is (state in (1, 2))

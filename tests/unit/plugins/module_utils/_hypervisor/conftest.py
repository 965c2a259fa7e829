"""Lines to a fake libvirt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.connections import Line

from tests.fakes.one_domain import FakeLibvirt
from tests.support.line_jobs import URI, Jobs


@pytest.fixture
def line(fake: FakeLibvirt) -> Iterator[Line]:  # noqa: ARG001  # installed before the line
    made = Line(URI, 5)
    yield made
    made.close()


@pytest.fixture
def jobs(line: Line) -> Iterator[Jobs]:
    made = Jobs(line)
    yield made
    made.let_all_go()

"""Channels through a fake libvirt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.one_domain import FakeLibvirt
from tests.support.blocking import Blocking
from tests.support.libvirt_channels import Shared, channel_to


@pytest.fixture
def channel(fake: FakeLibvirt) -> Iterator[Blocking]:  # noqa: ARG001  # installed before the channel
    with channel_to("web1") as channel:
        yield channel


@pytest.fixture
def shared(fake: FakeLibvirt) -> Iterator[Shared]:  # noqa: ARG001  # installed before the line
    made = Shared()
    yield made
    made.line.close()

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.time_services import running


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bash", "chronyd"], "chronyd"),
        (["systemd-timesyn"], "systemd-timesyncd"),
        (["ptp4l", "ntpd", "phc2sys"], "phc2sys"),
        (["bash"], None),
    ],
)
def test_the_service_is_found_by_the_name_of_its_process(tmp_path: Path, names: list[str], expected: str) -> None:
    for number, name in enumerate(names, 1):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "comm").write_text(f"{name}\n")
    (tmp_path / "99").mkdir()  # a process that has ended
    assert running(str(tmp_path)) == expected
    assert running(str(tmp_path / "missing")) is None


def test_this_machine_can_be_searched() -> None:
    assert running() is None or isinstance(running(), str)

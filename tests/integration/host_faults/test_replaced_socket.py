"""The socket's file is replaced at a chosen moment.

Whatever the result of the disturbed run, the next run must end with the right time and a true report.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import options
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import ResyncOptions, Timings

from tests.fakes.fleet import SimulatedFleet
from tests.fakes.kinds import SECOND_NS
from tests.processes.guest_channel import GuestChannel
from tests.processes.held_module import run_here
from tests.support.disturbed_guest import BEHIND_NS, SLACK_NS, TOLERANCE_NS, Guest, assert_true, run_plainly
from tests.support.moments import READING, STEPPING, Moment, at

# The replacement of the socket's file, and the error code of a run with it; without a code, it reaches the other guest.
REPLACEMENTS: Mapping[str, tuple[Callable[[Path, Path], object], str]] = {
    "nothing": (lambda _path, _other: None, "not_found"),
    "another guest's socket": (lambda path, other: path.hardlink_to(other), ""),
    "a plain file": (lambda path, _other: path.write_text("plain"), "not_connected"),
    "a directory": (lambda path, _other: path.mkdir(), "not_connected"),
    "a link to another guest's socket": (lambda path, other: path.symlink_to(other), ""),
    "a link to nothing": (lambda path, _other: path.symlink_to(path.parent / "missing"), "not_found"),
    "a link to itself": (lambda path, _other: path.symlink_to(path), "not_connected"),
}
REPLACED_AT = {
    "while measuring": Moment(READING, 1),
    "between measuring and stepping": Moment(STEPPING),
    "between stepping and verifying": Moment(STEPPING, is_after=True),
    "while verifying": Moment(READING, 1, since=STEPPING),
}
OTHER_NS = 3 * SECOND_NS

one_agent = pytest.mark.parametrize("guest", ["extended"], indirect=True)


@pytest.fixture
def other(fleet: SimulatedFleet) -> Guest:
    found = Guest(fleet, "other")
    found.put_off_by(OTHER_NS)
    return found


def replace(path: Path, what: str, other: Guest) -> None:
    path.rename(path.with_suffix(".kept"))
    put, _code = REPLACEMENTS[what]
    put(path, Path(other.agent_path))


def clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def put_back(path: Path) -> None:
    clear(path)
    path.with_suffix(".kept").replace(path)


@one_agent
@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_the_next_run_uses_a_socket_that_replaced_the_first(guest: Guest, other: Guest, what: str, path: Path) -> None:
    _put, code = REPLACEMENTS[what]
    replace(path, what, other)
    entry = run_here({"socket": str(path)})["guest"]
    if code:
        assert entry["error"]["code"] == code
        assert abs(other.truth_ns() - OTHER_NS) < SLACK_NS
    else:
        assert_true(entry, OTHER_NS, other.truth_ns())
    assert abs(guest.truth_ns() - BEHIND_NS) < SLACK_NS
    put_back(path)
    run_plainly(guest, path)


@one_agent
@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize("phase", REPLACED_AT)
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_a_run_continues_with_its_guest_after_the_sockets_file_was_replaced(
    guest: Guest, other: Guest, what: str, phase: str, path: Path
) -> None:
    with at({REPLACED_AT[phase]: lambda: replace(path, what, other)}):
        entry = run_here({"socket": str(path)})["guest"]
    assert_true(entry, BEHIND_NS, guest.truth_ns())
    assert abs(other.truth_ns() - OTHER_NS) < SLACK_NS
    put_back(path)
    run_plainly(guest, path)


LOST_TO = [(what, OTHER_NS) for what in REPLACEMENTS]
LOST_TO += [(what, 0) for what, (_put, code) in REPLACEMENTS.items() if not code]


@one_agent
@pytest.mark.parametrize("phase", REPLACED_AT)
@pytest.mark.parametrize(("what", "other_ns"), LOST_TO)
def test_a_run_steps_each_guest_only_by_its_own_offset_after_its_channel_was_lost(
    guest: Guest,
    other: Guest,
    what: str,
    other_ns: int,
    phase: str,
    channel: GuestChannel,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    impatient = functools.partial(ResyncOptions, timings=Timings(agent=0.3, hwclock=0.3))
    monkeypatch.setattr(options, "ResyncOptions", impatient)
    other.put_off_by(other_ns)
    steps, steps_of_other = guest.steps(), other.steps()

    def lose() -> None:
        channel.end()
        replace(path, what, other)

    with at({REPLACED_AT[phase]: lose}):
        entry = run_here({"socket": str(path)})["guest"]
    stepped = guest.steps() - steps, other.steps() - steps_of_other
    # Each guest that was stepped was stepped by its own offset.
    for each, has_stepped, was_ns in zip((guest, other), stepped, (BEHIND_NS, other_ns), strict=True):
        assert abs(each.truth_ns() - (0 if has_stepped else was_ns)) < TOLERANCE_NS
    if "error" in entry:
        assert entry.get("changed", False) or not any(stepped)
    else:
        is_first = abs(entry["offset_before_ns"] - BEHIND_NS) <= entry["uncertainty_before_ns"] + SLACK_NS
        assert stepped == ((entry["attempts"], 0) if is_first else (0, entry["attempts"]))
        assert entry["changed"] is any(stepped)
    clear(path)
    with GuestChannel(path, guest.agent_path):
        run_plainly(guest, path)

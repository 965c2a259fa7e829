"""The module is killed at a chosen moment.

Whatever the result of the disturbed run, the next run must end with the right time and a true report.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes.guest_channel import GuestChannel
from tests.processes.held_module import HeldModule, Stop
from tests.support.disturbed_guest import Guest, both_agents, run_plainly
from tests.support.moments import CLOSING, READING, STEPPING, Moment
from tests.support.until import until

PATIENCE_SECONDS = 30.0


@both_agents
@pytest.mark.usefixtures("channel")
@pytest.mark.parametrize(
    ("moment", "steps"),
    [
        pytest.param(Moment("guest-info"), False, id="before the first request"),
        pytest.param(Moment(READING, 1), False, id="while measuring"),
        pytest.param(Moment(STEPPING), False, id="between measuring and stepping"),
        pytest.param(Moment(STEPPING, is_after=True), True, id="between stepping and verifying"),
        pytest.param(Moment(READING, 1, since=STEPPING), True, id="while verifying"),
        pytest.param(Moment(CLOSING), True, id="at the end"),
    ],
)
def test_the_next_run_corrects_the_clock_after_a_kill(guest: Guest, path: Path, moment: Moment, steps: bool) -> None:
    """``steps``: the step is executed nevertheless."""
    steps_before = guest.steps()
    with HeldModule({"socket": str(path)}, [Stop(moment)]) as run:
        run.wait()
        run.kill()
    assert (guest.steps() > steps_before) is steps
    rerun = run_plainly(guest, path)
    # A time that was delayed leaves an offset, which the next run corrects.
    assert guest.name == "stock" or rerun["changed"] is not steps


@both_agents
@pytest.mark.parametrize("waits_for", ["its agent", "its client"])
def test_the_module_is_killed_while_its_step_or_the_reply_is_in_the_channel(
    guest: Guest, waits_for: str, channel: GuestChannel, path: Path
) -> None:
    steps = guest.steps()
    held = channel.hold(guest.stepping, is_reply=waits_for == "its client")
    with HeldModule({"socket": str(path)}) as run:
        held.wait()
        run.kill()
    held.release()
    until(lambda: guest.steps() == steps + 1, "the step was not executed", PATIENCE_SECONDS)
    rerun = run_plainly(guest, path)
    assert guest.steps() == steps + 1 + rerun["attempts"]
    # A difference is right even if it arrives late; a time may be out of date.
    assert guest.name == "stock" or not rerun["changed"]


@both_agents
def test_the_module_is_killed_and_its_step_is_executed_while_the_next_run_measures(
    guest: Guest, channel: GuestChannel, path: Path
) -> None:
    steps = guest.steps()
    held = channel.hold(guest.stepping)
    with HeldModule({"socket": str(path)}) as run:
        held.wait()
        run.kill()
    # It takes longer to start than this tolerance.
    options = {"socket": str(path), "tolerance": 0.01}
    with HeldModule(options, [Stop(Moment("guest-info"), is_held=False)]) as next_run:
        next_run.wait()
        assert guest.steps() == steps
        held.release()
        entry = next_run.result()["guest"]
    assert entry["within_tolerance"]
    # A difference was added by then and is not added again; a time was up to date when it was sent.
    assert entry["changed"] is (guest.name == "stock")
    assert guest.steps() == steps + 1 + entry["attempts"]
    run_plainly(guest, path)

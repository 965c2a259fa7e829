"""The notices that follow from events of one hypervisor's guests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch import causes
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.notices import (
    Notice,
    Stale,
    WatchedGuest,
    Withdrawn,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.states import SECOND_NS, GuestStates, SeenGuest
from hypothesis import given
from hypothesis import strategies as st

URI = "qemu:///system"
PATIENCE_NS = 60 * SECOND_NS
WEB = WatchedGuest(URI, "uuid-of-web", "web")
MILLISECOND_NS = 1_000_000

# Events as libvirt 9.0 sends them, each after a pause in milliseconds. A pair is a lifecycle event: type and detail;
# "gone" and "there" are events of the agent's channel.
BOOT = [(0, "gone"), (190, (4, 0)), (0, (2, 0)), (20_000, "there")]
SUSPEND = [(0, (3, 0))]
RESUME = [(0, (4, 0))]
SAVE = [(0, (3, 0)), (1830, (5, 4))]
RESTORE_WITHOUT_AGENT = [(0, "gone"), (318, (2, 2)), (5, (4, 2))]
RESTORE = [*RESTORE_WITHOUT_AGENT, (31, "there")]
RESTORE_PAUSED = [(0, "gone"), (318, (2, 2)), (5, (3, 4))]
REVERT = [(0, (5, 6)), (625, "gone"), (251, (2, 3)), (2, (4, 2)), (19, (0, 3)), (8, "there")]
SNAPSHOT = [(0, (3, 0)), (232, (4, 0))]
MIGRATION_HERE = [(0, "gone"), (300, (2, 1)), (1500, (4, 1)), (10, "there")]
POSTCOPY_HERE = [(0, "gone"), (300, (2, 1)), (500, (4, 3)), (1100, "there"), (300, (4, 1))]
MIGRATION_AWAY = [(0, (3, 1)), (200, (5, 3))]
SLEEP = [(0, (7, 0))]
WAKE_UP = [(0, (2, 4))]
DESTROY = [(0, (6, 2)), (9, (5, 1))]
RESET = [(0, "reset"), (11, "gone"), (17, "reset"), (1, "reset"), (22_000, "there")]

# A scan finds the guest with its agent, without it, or without information about it; or does not find the guest.
SEEN = {"listed": True, "listed without agent": False, "listed, agent unknown": None}
ABSENT = "not listed"

DONE = [(0, "done")]
RETRY_LATER = [(0, "retry later")]

Action = Sequence[tuple[int, Any]]


class Play:
    """Feeds events to the states, and takes the notices after each event."""

    def __init__(self) -> None:
        self.states = GuestStates(URI, PATIENCE_NS)
        self.now_ns = 1_000 * SECOND_NS
        self.is_done_at_once = True
        self._last_stale: Stale | None = None

    def go(self, *actions: Action, guest: WatchedGuest = WEB) -> list[Notice]:
        notices: list[Notice] = []
        for action in actions:
            for milliseconds, event in action:
                self.now_ns += milliseconds * MILLISECOND_NS
                self.hear(guest, event)
                notices += self.take()
            self.now_ns += 5 * SECOND_NS
            notices += self.take()
        return notices

    def take(self) -> list[Notice]:
        notices = self.states.take(self.now_ns)
        for each in notices:
            if isinstance(each, Stale):
                self._last_stale = each
                if self.is_done_at_once:
                    self.states.done(each.guest.uuid)
        return notices

    def wait(self) -> list[Notice]:
        """Let time pass until a notice is due without an event."""
        next_ns = self.states.next_ns()
        assert next_ns is not None
        self.now_ns = max(self.now_ns, next_ns)
        return self.take()

    def hear(self, guest: WatchedGuest, event: Any) -> None:
        if event == "reset":
            self.states.on_reboot(guest.uuid, guest.name, self.now_ns)
        elif event in SEEN or event == ABSENT:
            seen = [] if event == ABSENT else [SeenGuest(guest.uuid, guest.name, SEEN[event])]
            self.states.on_scan(seen, causes.WATCH_BEGAN, self.now_ns)
        elif event == "done":
            self.states.done(guest.uuid)
        elif event == "retry later":
            assert self._last_stale is not None
            self.states.retry_later(self._last_stale, self.now_ns)
        elif isinstance(event, str):
            self.states.on_agent(guest.uuid, guest.name, event == "there")
        else:
            self.states.on_lifecycle(guest.uuid, guest.name, *event, self.now_ns)


@pytest.fixture
def play() -> Play:
    return Play()


def words(notices: Sequence[Notice]) -> list[str]:
    """Return each notice's cause, with "but ..." for notices that are not of a stale clock."""
    return [
        each.cause
        if isinstance(each, Stale)
        else f"{each.cause}, but {each.became if isinstance(each, Withdrawn) else 'not needed'}"  # type: ignore[union-attr]
        for each in notices
    ]


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([BOOT, SUSPEND, RESUME], ["resumed"]),
        ([BOOT, SAVE, RESTORE], ["restored"]),
        ([BOOT, REVERT], ["reverted"]),
        ([BOOT, SUSPEND, REVERT], ["reverted"]),
        ([BOOT, SNAPSHOT], ["resumed"]),
        ([BOOT, MIGRATION_HERE], ["migrated"]),
        ([POSTCOPY_HERE], ["migrated"]),
        ([BOOT, SLEEP, WAKE_UP], ["woke_up"]),
        ([RESUME], ["resumed"]),  # a guest without earlier events
        ([BOOT, *[SUSPEND, RESUME] * 3], ["resumed"] * 3),
        ([BOOT, [(2, (3, 0)), (2, (4, 0))] * 5], ["resumed"] * 5),
        # These need no resync.
        *(([RESUME, other], ["resumed"]) for other in (BOOT, SUSPEND, SAVE, SLEEP, DESTROY, MIGRATION_AWAY)),
        ([BOOT, RESET, RESET], ["reset, but not needed"] * 2),
        ([[(0, "reset"), (1_999, "reset")]], ["reset, but not needed"]),
        ([[(0, "reset"), (2_000, "reset")]], ["reset, but not needed"] * 2),
        ([BOOT, [(0, "gone"), (900, "there")]], []),
        # In any order.
        ([[(0, "gone"), (1, (2, 0)), (1, (4, 0)), (20_000, "there")]], []),
        *(
            ([SAVE, [(0, "gone"), *order]], [cause])
            for cause, order in (
                ("reverted", [(1, "there"), (1, (4, 2)), (1, (2, 2))]),
                ("reverted", [(1, (4, 2)), (1, "there"), (1, (2, 2))]),
                ("restored", [(1, (4, 2)), (1, (2, 2)), (1, "there")]),
            )
        ),
        # Unknown events and details of a future libvirt.
        ([[(0, (event, 99)) for event in (0, 1, 2, 6, 9, 77)]], []),
        ([[(0, (4, 99))]], ["resumed"]),
        # The notice waits for the agent.
        ([SAVE, RESTORE_WITHOUT_AGENT], []),
        ([SAVE, RESTORE_WITHOUT_AGENT, [(7_000, "there")]], ["restored"]),
        ([SAVE, RESTORE_WITHOUT_AGENT, SUSPEND, [(0, "there")], RESUME], ["restored, but paused", "resumed"]),
        ([SAVE, RESTORE_WITHOUT_AGENT, DESTROY], ["restored, but stopped"]),
        ([SAVE, RESTORE_PAUSED], ["restored, but paused"]),
        ([SAVE, RESTORE_PAUSED, [(0, (4, 0)), (30, "there")]], ["restored, but paused", "resumed"]),
        # A scan of all guests.
        ([[(0, "listed")]], ["watch_began"]),
        ([[(0, "listed, agent unknown")]], ["watch_began"]),
        ([[(0, "listed without agent")]], []),
        ([[(0, "listed without agent")], [(3_000, "there")]], ["watch_began"]),
        ([RESUME, SUSPEND, RESTORE_WITHOUT_AGENT, [(0, ABSENT)]], ["resumed", "restored, but stopped"]),
        ([[(0, "gone"), (318, (2, 2))], [(0, "listed")]], ["restored"]),
        ([[(0, "listed"), (1, (2, 2)), (1, (4, 2))]], ["watch_began"]),
        ([[(0, "listed"), (0, (3, 0)), (1, (4, 0))]], ["watch_began", "resumed"]),
    ],
)
def test_each_action_causes_one_notice(play: Play, actions: list[Action], expected: list[str]) -> None:
    assert words(play.go(*actions)) == expected


def test_a_notice_has_the_time_of_the_resumption_and_the_current_name(play: Play) -> None:
    play.go(BOOT, SAVE)
    saved_ns, renamed = play.now_ns, WEB._replace(name="www")
    assert play.go(RESTORE, guest=renamed) == [Stale(renamed, causes.RESTORED, saved_ns + (318 + 5) * MILLISECOND_NS)]


def test_a_notice_waits_for_the_agent_until_the_patience_ends(play: Play) -> None:
    play.go(SAVE)
    resumed_ns = play.now_ns + (318 + 5) * MILLISECOND_NS
    play.go(RESTORE_WITHOUT_AGENT)
    assert words(play.wait()) == ["restored"]
    assert play.now_ns == resumed_ns + PATIENCE_NS
    assert play.states.next_ns() is None


def test_a_started_guest_that_is_never_resumed_is_noticed_after_a_while(play: Play) -> None:
    assert play.go([(0, "gone"), (318, (2, 2)), (20, "there")]) == []
    assert words(play.wait()) == ["restored"]


@pytest.fixture
def busy() -> Play:
    """States whose guests stay busy after a notice, until ``DONE`` or ``RETRY_LATER``."""
    play = Play()
    play.is_done_at_once = False
    return play


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        ([SUSPEND, RESUME, SUSPEND, RESUME], ["resumed, but paused"]),
        ([SUSPEND, RESUME, SUSPEND, RESUME, DONE], ["resumed, but paused", "resumed"]),
        ([[(0, "listed")]], []),
        ([[(0, "listed")], DONE, DONE], ["watch_began"]),
        ([RETRY_LATER], []),
        ([RETRY_LATER, [(5_000, "there")]], ["resumed"]),
        ([RETRY_LATER, [(0, "listed")]], ["resumed"]),
        ([SUSPEND, RESUME, RETRY_LATER], ["resumed"]),
        ([RETRY_LATER, SUSPEND, [(60_000, "there")]], ["resumed, but paused"]),
        ([DESTROY, RETRY_LATER], []),
    ],
)
def test_a_busy_guest_is_noticed_again_after_its_resync(busy: Play, actions: list[Action], expected: list[str]) -> None:
    (stale,) = busy.go(RESUME)
    again = busy.go(*actions)
    assert words(again) == expected
    if SUSPEND not in actions and "resumed" in expected:
        assert again == [stale]


def test_a_busy_guest_does_not_delay_another_one(busy: Play) -> None:
    busy.go(RESUME)
    assert words(busy.go(RESUME, guest=WatchedGuest(URI, "uuid-of-db", "db"))) == ["resumed"]


@pytest.mark.parametrize("end", [DONE, RETRY_LATER])
def test_a_busy_guest_that_is_gone_is_forgotten_after_its_resync(busy: Play, end: Action) -> None:
    busy.go(RESUME, DESTROY)
    assert (len(busy.states._states), busy.states.next_ns()) == (1, None)
    busy.go(end)
    assert len(busy.states._states) == 0


_EVENTS = st.one_of(
    st.sampled_from(["there", "gone", "reset"]),
    st.tuples(st.integers(0, 9), st.integers(0, 7)),
)


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2), _EVENTS, st.booleans()), max_size=60))
def test_any_events_lead_to_a_notice_after_the_last_resumption_and_events_are_not_kept(
    reports: list[tuple[int, int, Any, bool]],
) -> None:
    play = Play()
    play.is_done_at_once = False
    guests = [WatchedGuest(URI, f"uuid-{number}", f"guest-{number}") for number in range(3)]
    busy: set[str] = set()
    owed: set[str] = set()  # resumed after their last notice

    def take() -> None:
        for each in play.take():
            if isinstance(each, Stale):
                assert each.guest.uuid not in busy
                busy.add(each.guest.uuid)
                owed.discard(each.guest.uuid)

    def done(guest: WatchedGuest) -> None:
        play.states.done(guest.uuid)
        busy.discard(guest.uuid)

    for milliseconds, number, event, is_done in reports:
        guest = guests[number]
        was_quiet = guest.uuid not in owed
        play.now_ns += milliseconds * MILLISECOND_NS
        play.hear(guest, event)
        if isinstance(event, tuple) and event[0] in (3, 5, 7, 8):
            owed.discard(guest.uuid)
            if was_quiet:
                play.hear(guest, (4, 0))
                owed.add(guest.uuid)
        if event == (2, 0):
            owed.discard(guest.uuid)
        take()
        if is_done:
            done(guest)
    for guest in guests:
        done(guest)
    play.now_ns += PATIENCE_NS
    take()
    assert owed == set()
    assert len(play.states._states) <= len(guests)
    assert play.states.next_ns() is None

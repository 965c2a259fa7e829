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

# As libvirt 9.0 sends them, with the milliseconds between them. A pair is a lifecycle event; a word is about the agent.
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

# A pass over all guests finds it with or without its agent, or cannot say; or does not find it.
SEEN = {"listed": True, "listed without agent": False, "listed, of no version that says more": None}
ABSENT = "not listed"

DONE = [(0, "done")]
PUT_BACK = [(0, "put back")]

Happening = Sequence[tuple[int, Any]]


class Play:
    """States that hear what libvirt reports, and are asked for their notices after each event."""

    def __init__(self) -> None:
        self.states = GuestStates(URI, PATIENCE_NS)
        self.now_ns = 1_000 * SECOND_NS
        self.is_worked_on_at_once = True
        self._last_stale: Stale | None = None

    def go(self, *happenings: Happening, guest: WatchedGuest = WEB) -> list[Notice]:
        notices: list[Notice] = []
        for happening in happenings:
            for milliseconds, event in happening:
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
                if self.is_worked_on_at_once:
                    self.states.done(each.guest.uuid)
        return notices

    def wait(self) -> list[Notice]:
        """Until there is a notice without anything happening."""
        next_ns = self.states.next_ns()
        assert next_ns is not None
        self.now_ns = max(self.now_ns, next_ns)
        return self.take()

    def hear(self, guest: WatchedGuest, event: Any) -> None:
        if event == "reset":
            self.states.on_reboot(guest.uuid, guest.name, self.now_ns)
        elif event in SEEN or event == ABSENT:
            seen = [] if event == ABSENT else [SeenGuest(guest.uuid, guest.name, SEEN[event])]
            self.states.on_pass(seen, causes.WATCH_BEGAN, self.now_ns)
        elif event == "done":
            self.states.done(guest.uuid)
        elif event == "put back":
            assert self._last_stale is not None
            self.states.put_back(self._last_stale, self.now_ns)
        elif isinstance(event, str):
            self.states.on_agent(guest.uuid, guest.name, event == "there")
        else:
            self.states.on_lifecycle(guest.uuid, guest.name, *event, self.now_ns)


@pytest.fixture
def play() -> Play:
    return Play()


def words(notices: Sequence[Notice]) -> list[str]:
    """The causes of stale clocks; of other notices also what they are, of a withdrawn one what became of the guest."""
    return [
        each.cause
        if isinstance(each, Stale)
        else f"{each.cause}, but {each.became if isinstance(each, Withdrawn) else 'not needed'}"  # type: ignore[union-attr]
        for each in notices
    ]


@pytest.mark.parametrize(
    ("happenings", "expected"),
    [
        ([BOOT, SUSPEND, RESUME], ["resumed"]),
        ([BOOT, SAVE, RESTORE], ["restored"]),
        ([BOOT, REVERT], ["reverted"]),
        ([BOOT, SUSPEND, REVERT], ["reverted"]),
        ([BOOT, SNAPSHOT], ["resumed"]),
        ([BOOT, MIGRATION_HERE], ["migrated"]),
        ([POSTCOPY_HERE], ["migrated"]),
        ([BOOT, SLEEP, WAKE_UP], ["woke_up"]),
        ([RESUME], ["resumed"]),  # of a guest that was never heard of
        ([BOOT, *[SUSPEND, RESUME] * 3], ["resumed"] * 3),
        ([BOOT, [(2, (3, 0)), (2, (4, 0))] * 5], ["resumed"] * 5),
        # These need no resync.
        *(([RESUME, other], ["resumed"]) for other in (BOOT, SUSPEND, SAVE, SLEEP, DESTROY, MIGRATION_AWAY)),
        ([BOOT, RESET, RESET], ["reset, but not needed"] * 2),
        ([[(0, "reset"), (1_999, "reset")]], ["reset, but not needed"]),
        ([[(0, "reset"), (2_000, "reset")]], ["reset, but not needed"] * 2),
        ([BOOT, [(0, "gone"), (900, "there")]], []),
        # In whatever order.
        ([[(0, "gone"), (1, (2, 0)), (1, (4, 0)), (20_000, "there")]], []),
        *(
            ([SAVE, [(0, "gone"), *order]], [cause])
            for cause, order in (
                ("reverted", [(1, "there"), (1, (4, 2)), (1, (2, 2))]),
                ("reverted", [(1, (4, 2)), (1, "there"), (1, (2, 2))]),
                ("restored", [(1, (4, 2)), (1, (2, 2)), (1, "there")]),
            )
        ),
        # Events and details that libvirt may have some day.
        ([[(0, (event, 99)) for event in (0, 1, 2, 6, 9, 77)]], []),
        ([[(0, (4, 99))]], ["resumed"]),
        # An agent is waited for.
        ([SAVE, RESTORE_WITHOUT_AGENT], []),
        ([SAVE, RESTORE_WITHOUT_AGENT, [(7_000, "there")]], ["restored"]),
        ([SAVE, RESTORE_WITHOUT_AGENT, SUSPEND, [(0, "there")], RESUME], ["restored, but paused", "resumed"]),
        ([SAVE, RESTORE_WITHOUT_AGENT, DESTROY], ["restored, but stopped"]),
        ([SAVE, RESTORE_PAUSED], ["restored, but paused"]),
        ([SAVE, RESTORE_PAUSED, [(0, (4, 0)), (30, "there")]], ["restored, but paused", "resumed"]),
        # A pass over all guests.
        ([[(0, "listed")]], ["watch_began"]),
        ([[(0, "listed, of no version that says more")]], ["watch_began"]),
        ([[(0, "listed without agent")]], []),
        ([[(0, "listed without agent")], [(3_000, "there")]], ["watch_began"]),
        ([RESUME, SUSPEND, RESTORE_WITHOUT_AGENT, [(0, ABSENT)]], ["resumed", "restored, but stopped"]),
        ([[(0, "gone"), (318, (2, 2))], [(0, "listed")]], ["restored"]),
        ([[(0, "listed"), (1, (2, 2)), (1, (4, 2))]], ["watch_began"]),
        ([[(0, "listed"), (0, (3, 0)), (1, (4, 0))]], ["watch_began", "resumed"]),
    ],
)
def test_one_thing_that_happens_is_one_notice(play: Play, happenings: list[Happening], expected: list[str]) -> None:
    assert words(play.go(*happenings)) == expected


def test_a_notice_counts_from_when_the_guest_runs_and_has_its_last_name(play: Play) -> None:
    play.go(BOOT, SAVE)
    saved_ns, renamed = play.now_ns, WEB._replace(name="www")
    assert play.go(RESTORE, guest=renamed) == [Stale(renamed, causes.RESTORED, saved_ns + (318 + 5) * MILLISECOND_NS)]


def test_an_agent_that_never_comes_is_waited_for_until_patience_ends(play: Play) -> None:
    play.go(SAVE)
    resumed_ns = play.now_ns + (318 + 5) * MILLISECOND_NS
    play.go(RESTORE_WITHOUT_AGENT)
    assert words(play.wait()) == ["restored"]
    assert play.now_ns == resumed_ns + PATIENCE_NS
    assert play.states.next_ns() is None


def test_a_guest_that_is_never_resumed_after_its_start_is_noticed_all_the_same(play: Play) -> None:
    assert play.go([(0, "gone"), (318, (2, 2)), (20, "there")]) == []
    assert words(play.wait()) == ["restored"]


@pytest.fixture
def busy() -> Play:
    """A guest is worked on from its notice on, until that is done or is put back: its hypervisor was not reached."""
    play = Play()
    play.is_worked_on_at_once = False
    return play


@pytest.mark.parametrize(
    ("happenings", "expected"),
    [
        ([SUSPEND, RESUME, SUSPEND, RESUME], ["resumed, but paused"]),
        ([SUSPEND, RESUME, SUSPEND, RESUME, DONE], ["resumed, but paused", "resumed"]),
        ([[(0, "listed")]], []),
        ([[(0, "listed")], DONE, DONE], ["watch_began"]),
        ([PUT_BACK], []),
        ([PUT_BACK, [(5_000, "there")]], ["resumed"]),
        ([PUT_BACK, [(0, "listed")]], ["resumed"]),
        ([SUSPEND, RESUME, PUT_BACK], ["resumed"]),
        ([PUT_BACK, SUSPEND, [(60_000, "there")]], ["resumed, but paused"]),
        ([DESTROY, PUT_BACK], []),
    ],
)
def test_a_busy_guest_is_noticed_again_when_its_work_is_over(
    busy: Play, happenings: list[Happening], expected: list[str]
) -> None:
    (stale,) = busy.go(RESUME)
    again = busy.go(*happenings)
    assert words(again) == expected
    if SUSPEND not in happenings and "resumed" in expected:
        assert again == [stale]


def test_a_busy_guest_does_not_hold_up_another_one(busy: Play) -> None:
    busy.go(RESUME)
    assert words(busy.go(RESUME, guest=WatchedGuest(URI, "uuid-of-db", "db"))) == ["resumed"]


@pytest.mark.parametrize("end", [DONE, PUT_BACK])
def test_a_busy_guest_that_is_gone_is_forgotten_after_the_work(busy: Play, end: Happening) -> None:
    busy.go(RESUME, DESTROY)
    assert (len(busy.states._states), busy.states.next_ns()) == (1, None)
    busy.go(end)
    assert len(busy.states._states) == 0


_EVENTS = st.one_of(
    st.sampled_from(["there", "gone", "reset"]),
    st.tuples(st.integers(0, 9), st.integers(0, 7)),
)


@given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2), _EVENTS, st.booleans()), max_size=60))
def test_whatever_libvirt_reports_a_guest_is_noticed_after_its_last_resumption_and_nothing_is_kept_of_events(
    reports: list[tuple[int, int, Any, bool]],
) -> None:
    play = Play()
    play.is_worked_on_at_once = False
    guests = [WatchedGuest(URI, f"uuid-{number}", f"guest-{number}") for number in range(3)]
    busy: set[str] = set()
    owed: set[str] = set()  # was resumed after its last notice

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

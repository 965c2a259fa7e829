from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch import causes
from ansible_collections.qemu.guest_agent.plugins.module_utils._watch.notices import (
    Notice,
    NotNeeded,
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

# As libvirt 9.0 sends them, with the milliseconds between them. A triple is a lifecycle event; a word is the agent.
BOOT = [(0, "gone"), (190, (4, 0)), (0, (2, 0)), (20_000, "there")]
SUSPEND = [(0, (3, 0))]
RESUME = [(0, (4, 0))]
SAVE = [(0, (3, 0)), (1830, (5, 4))]
RESTORE = [(0, "gone"), (318, (2, 2)), (5, (4, 2)), (31, "there")]
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

Happening = Sequence[tuple[int, Any]]


class Play:
    """A states that is told what libvirt tells, and asked behind each event."""

    def __init__(self, is_worked_on_at_once: bool = True) -> None:
        self.states = GuestStates(URI, PATIENCE_NS)
        self.now_ns = 1_000 * SECOND_NS
        self._is_worked_on_at_once = is_worked_on_at_once

    def go(self, *happenings: Happening, guest: WatchedGuest = WEB) -> list[Notice]:
        notices: list[Notice] = []
        for happening in happenings:
            for milliseconds, event in happening:
                self.now_ns += milliseconds * MILLISECOND_NS
                self._tell(guest, event)
                notices += self.take()
            self.now_ns += 5 * SECOND_NS
            notices += self.take()
        return notices

    def take(self) -> list[Notice]:
        notices = self.states.take(self.now_ns)
        if self._is_worked_on_at_once:
            for each in notices:
                if isinstance(each, Stale):
                    self.states.done(each.guest.uuid)
        return notices

    def look(self, cause: str, *seen: SeenGuest) -> list[Notice]:
        self.states.on_pass(seen, cause, self.now_ns)
        return self.take()

    def wait(self) -> list[Notice]:
        """Until there is something to tell without anything happening."""
        next_ns = self.states.next_ns()
        assert next_ns is not None
        self.now_ns = max(self.now_ns, next_ns)
        return self.take()

    def _tell(self, guest: WatchedGuest, event: Any) -> None:
        if event == "reset":
            self.states.on_reboot(guest.uuid, guest.name, self.now_ns)
        elif isinstance(event, str):
            self.states.on_agent(guest.uuid, guest.name, event == "there")
        else:
            self.states.on_lifecycle(guest.uuid, guest.name, *event, self.now_ns)


@pytest.fixture
def play() -> Play:
    return Play()


def causes_of(notices: Sequence[Notice]) -> list[str]:
    assert all(isinstance(each, Stale) for each in notices), notices
    return [each.cause for each in notices if isinstance(each, Stale)]


class TestWhatIsPutBack:
    """Its hypervisor could not be reached."""

    @pytest.fixture
    def play(self) -> Play:
        return Play(is_worked_on_at_once=False)

    @staticmethod
    def told(play: Play) -> Stale:
        (stale,) = play.go(RESUME)
        assert isinstance(stale, Stale)
        return stale

    def test_is_told_again_after_a_while(self, play: Play) -> None:
        stale = self.told(play)
        play.states.put_back(stale, play.now_ns)
        assert play.take() == []
        before_ns = play.now_ns
        assert play.wait() == [stale]
        assert play.now_ns > before_ns

    def test_is_told_again_as_soon_as_all_guests_are_looked_at(self, play: Play) -> None:
        stale = self.told(play)
        play.states.put_back(stale, play.now_ns)
        assert play.look(causes.WATCH_RESUMED, SeenGuest(WEB.uuid, WEB.name, True)) == [stale]

    def test_is_what_has_happened_meanwhile(self, play: Play) -> None:
        stale = self.told(play)
        play.go(SUSPEND, RESUME)
        play.states.put_back(stale, play.now_ns)
        (again,) = play.take()
        assert isinstance(again, Stale)
        assert again.since_ns > stale.since_ns

    def test_is_withdrawn_when_the_guest_is_paused(self, play: Play) -> None:
        play.states.put_back(self.told(play), play.now_ns)
        assert play.go(SUSPEND) == [Withdrawn(WEB, causes.RESUMED, "paused")]
        assert play.states.next_ns() is None

    def test_is_forgotten_with_the_guest(self, play: Play) -> None:
        stale = self.told(play)
        play.go(DESTROY)
        play.states.put_back(stale, play.now_ns)
        assert play.take() == []
        assert len(play.states) == 0


class TestWhatHappensToAGuest:
    @pytest.mark.parametrize(
        ("before", "happening", "cause"),
        [
            ([SUSPEND], RESUME, causes.RESUMED),
            ([SAVE], RESTORE, causes.RESTORED),
            ([], REVERT, causes.REVERTED),
            ([SUSPEND], REVERT, causes.REVERTED),
            ([], SNAPSHOT, causes.RESUMED),
            ([], MIGRATION_HERE, causes.MIGRATED),
            ([SLEEP], WAKE_UP, causes.WOKE_UP),
        ],
    )
    def test_is_told_once(self, play: Play, before: list[Happening], happening: Happening, cause: str) -> None:
        assert play.go(BOOT, *before) == []
        assert causes_of(play.go(happening)) == [cause]

    def test_is_told_again_when_it_happens_again(self, play: Play) -> None:
        assert causes_of(play.go(BOOT, *[SUSPEND, RESUME] * 3)) == [causes.RESUMED] * 3

    def test_is_told_when_the_guest_runs_since_it_runs(self, play: Play) -> None:
        play.go(BOOT, SAVE)
        restored_ns = play.now_ns
        (stale,) = play.go(RESTORE)
        assert isinstance(stale, Stale)
        assert stale.guest == WEB
        assert stale.since_ns == restored_ns + (318 + 5) * MILLISECOND_NS

    def test_is_told_of_a_guest_that_was_never_heard_of(self, play: Play) -> None:
        assert causes_of(play.go(RESUME)) == [causes.RESUMED]

    def test_in_quick_succession_is_told_each_time(self, play: Play) -> None:
        quick = [each for _time in range(5) for each in ((2, (3, 0)), (2, (4, 0)))]
        play.go(BOOT)
        assert causes_of(play.go(quick)) == [causes.RESUMED] * 5

    @pytest.mark.parametrize("happening", [BOOT, SUSPEND, SAVE, SLEEP, DESTROY, MIGRATION_AWAY, RESTORE_PAUSED])
    def test_is_not_told_if_it_needs_no_resync(self, play: Play, happening: Happening) -> None:
        play.go(RESUME)
        assert [each for each in play.go(happening) if isinstance(each, Stale)] == []

    @pytest.mark.parametrize("order", [[(4, 0), (2, 0)], [(2, 0), (4, 0)]])
    def test_a_boot_is_no_resumption_in_whatever_order_it_is_told(self, play: Play, order: list[Any]) -> None:
        assert play.go([(0, "gone"), *((1, event) for event in order), (20_000, "there")]) == []

    @pytest.mark.parametrize("connected", [0, 1, 2])
    def test_a_restoration_is_one_in_whatever_order_it_is_told(self, play: Play, connected: int) -> None:
        told: list[Any] = [(1, (4, 2)), (1, (2, 2))]
        told.insert(connected, (1, "there"))
        assert len(causes_of(play.go(SAVE, [(0, "gone"), *told]))) == 1

    def test_postcopy_is_told_as_soon_as_the_agent_is_there(self, play: Play) -> None:
        assert causes_of(play.go(POSTCOPY_HERE)) == [causes.MIGRATED]

    def test_a_guest_that_was_restored_paused_is_told_of_when_it_runs(self, play: Play) -> None:
        assert play.go(SAVE, RESTORE_PAUSED) == [Withdrawn(WEB, causes.RESTORED, "paused")]
        assert causes_of(play.go([(0, (4, 0)), (30, "there")])) == [causes.RESUMED]

    def test_a_reset_is_not_needed_and_said_so_once(self, play: Play) -> None:
        play.go(BOOT)
        assert play.go(RESET) == [NotNeeded(WEB, causes.RESET)]
        assert play.go(RESET) == [NotNeeded(WEB, causes.RESET)]

    @pytest.mark.parametrize(("later_ms", "said"), [(1_999, 1), (2_000, 2)])
    def test_a_reset_two_seconds_after_another_is_a_second_one(self, play: Play, later_ms: int, said: int) -> None:
        assert play.go([(0, "reset"), (later_ms, "reset")]) == [NotNeeded(WEB, causes.RESET)] * said

    def test_events_that_libvirt_may_have_some_day_are_no_cause(self, play: Play) -> None:
        assert play.go([(0, (event, 99)) for event in (0, 1, 2, 6, 9, 77)]) == []

    def test_a_resumption_of_a_kind_that_libvirt_may_have_some_day_is_a_resumption(self, play: Play) -> None:
        assert causes_of(play.go([(0, (4, 99))])) == [causes.RESUMED]


class TestAnAgent:
    def test_that_is_not_connected_is_waited_for(self, play: Play) -> None:
        assert play.go(SAVE, RESTORE[:-1]) == []
        assert causes_of(play.go([(7_000, "there")])) == [causes.RESTORED]

    def test_that_never_comes_is_told_when_patience_ends(self, play: Play) -> None:
        play.go(SAVE)
        resumed_ns = play.now_ns + (318 + 5) * MILLISECOND_NS
        play.go(RESTORE[:-1])
        assert causes_of(play.wait()) == [causes.RESTORED]
        assert play.now_ns == resumed_ns + PATIENCE_NS
        assert play.states.next_ns() is None

    def test_that_was_connected_all_the_time_is_not_waited_for(self, play: Play) -> None:
        play.go(BOOT, SUSPEND)
        assert causes_of(play.go(RESUME)) == [causes.RESUMED]

    def test_that_was_restarted_is_no_cause(self, play: Play) -> None:
        assert play.go(BOOT, [(0, "gone"), (900, "there")]) == []


class TestAGuestThat:
    def test_is_paused_before_its_agent_came_is_withdrawn(self, play: Play) -> None:
        play.go(SAVE, RESTORE[:-1])
        assert play.go(SUSPEND) == [Withdrawn(WEB, causes.RESTORED, "paused")]
        assert play.go([(0, "there")]) == []
        assert causes_of(play.go(RESUME)) == [causes.RESUMED]

    def test_is_destroyed_before_its_agent_came_is_withdrawn_and_forgotten(self, play: Play) -> None:
        play.go(SAVE, RESTORE[:-1])
        assert play.go(DESTROY) == [Withdrawn(WEB, causes.RESTORED, "stopped")]
        assert len(play.states) == 0
        assert play.states.next_ns() is None

    def test_is_never_resumed_behind_its_start_is_told_of_all_the_same(self, play: Play) -> None:
        assert play.go([(0, "gone"), (318, (2, 2)), (20, "there")]) == []
        assert causes_of(play.wait()) == [causes.RESTORED]

    def test_is_worked_on_is_not_told_of_meanwhile_and_then_once(self) -> None:
        play = Play(is_worked_on_at_once=False)
        assert causes_of(play.go(RESUME)) == [causes.RESUMED]
        assert play.go(SUSPEND, RESUME, SUSPEND, RESUME) == [Withdrawn(WEB, causes.RESUMED, "paused")]
        assert play.states.next_ns() is None
        play.states.done(WEB.uuid)
        assert causes_of(play.take()) == [causes.RESUMED]
        play.states.done(WEB.uuid)
        assert play.take() == []

    def test_is_gone_while_it_is_worked_on_is_forgotten_behind_that(self) -> None:
        play = Play(is_worked_on_at_once=False)
        play.go(RESUME)
        play.go(DESTROY)
        assert len(play.states) == 1
        play.states.done(WEB.uuid)
        assert len(play.states) == 0
        play.states.done(WEB.uuid)

    def test_was_renamed_is_told_of_by_its_new_name(self, play: Play) -> None:
        play.go(BOOT, SUSPEND)
        (stale,) = play.go(RESUME, guest=WEB._replace(name="www"))
        assert isinstance(stale, Stale)
        assert stale.guest.name == "www"

    def test_has_nothing_to_do_with_another_one_does_not_hold_it_up(self) -> None:
        play = Play(is_worked_on_at_once=False)
        other = WatchedGuest(URI, "uuid-of-db", "db")
        play.go(RESUME)
        (stale,) = play.go(RESUME, guest=other)
        assert isinstance(stale, Stale)
        assert stale.guest == other


class TestAPass:
    def test_tells_of_all_guests_whose_agent_is_there(self, play: Play) -> None:
        notices = play.look(causes.WATCH_BEGAN, SeenGuest("1", "one", True), SeenGuest("2", "two", None))
        assert causes_of(notices) == [causes.WATCH_BEGAN] * 2

    def test_waits_for_agents_that_are_not(self, play: Play) -> None:
        assert play.look(causes.WATCH_BEGAN, SeenGuest(WEB.uuid, WEB.name, False)) == []
        assert causes_of(play.go([(3_000, "there")])) == [causes.WATCH_BEGAN]

    def test_forgets_guests_that_have_gone_meanwhile(self, play: Play) -> None:
        play.go(RESUME, SAVE[:1], RESTORE[:-1])
        assert play.look(causes.WATCH_RESUMED) == [Withdrawn(WEB, causes.RESTORED, "stopped")]
        assert len(play.states) == 0

    def test_keeps_what_was_still_to_be_told(self, play: Play) -> None:
        play.go([(0, "gone"), (318, (2, 2))])
        assert causes_of(play.look(causes.WATCH_RESUMED, SeenGuest(WEB.uuid, WEB.name, True))) == [causes.RESTORED]

    def test_is_told_behind_the_work_that_is_under_way(self) -> None:
        play = Play(is_worked_on_at_once=False)
        play.go(RESUME)
        assert play.look(causes.WATCH_RESUMED, SeenGuest(WEB.uuid, WEB.name, True)) == []
        play.states.done(WEB.uuid)
        assert causes_of(play.take()) == [causes.WATCH_RESUMED]

    def test_is_not_repeated_by_events_that_came_with_it(self, play: Play) -> None:
        notices = play.look(causes.WATCH_BEGAN, SeenGuest(WEB.uuid, WEB.name, True))
        assert causes_of(notices + play.go([(1, (2, 2)), (1, (4, 2))])) == [causes.WATCH_BEGAN]

    def test_does_not_swallow_what_happens_behind_it(self, play: Play) -> None:
        notices = play.look(causes.WATCH_BEGAN, SeenGuest(WEB.uuid, WEB.name, True))
        assert causes_of(notices + play.go([*SUSPEND[:1], (1, (4, 0))])) == [causes.WATCH_BEGAN, causes.RESUMED]


_EVENTS = st.one_of(
    st.sampled_from(["there", "gone", "reset"]),
    st.tuples(st.integers(0, 9), st.integers(0, 7)),
)


class TestWhateverLibvirtTells:
    @given(st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 2), _EVENTS, st.booleans()), max_size=60))
    def test_a_guest_is_told_of_behind_its_last_resumption_and_nothing_is_kept_of_events(
        self, told: list[tuple[int, int, Any, bool]]
    ) -> None:
        play = Play(is_worked_on_at_once=False)
        guests = [WatchedGuest(URI, f"uuid-{number}", f"guest-{number}") for number in range(3)]
        busy: set[str] = set()
        owed: set[str] = set()  # was resumed behind what was told of it last

        def take() -> None:
            for each in play.take():
                if isinstance(each, Stale):
                    assert each.guest.uuid not in busy
                    busy.add(each.guest.uuid)
                    owed.discard(each.guest.uuid)

        for milliseconds, number, event, is_done in told:
            guest = guests[number]
            was_quiet = guest.uuid not in owed
            play.now_ns += milliseconds * MILLISECOND_NS
            play._tell(guest, event)
            if isinstance(event, tuple) and event[0] in (3, 5, 7, 8):
                owed.discard(guest.uuid)
                if was_quiet:
                    play._tell(guest, (4, 0))
                    owed.add(guest.uuid)
            if event == (2, 0):
                owed.discard(guest.uuid)
            take()
            if is_done:
                play.states.done(guest.uuid)
                busy.discard(guest.uuid)
        for guest in guests:
            play.states.done(guest.uuid)
            busy.discard(guest.uuid)
        play.now_ns += PATIENCE_NS
        take()
        assert owed == set()
        assert len(play.states) <= len(guests)
        assert play.states.next_ns() is None

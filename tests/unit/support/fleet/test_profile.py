"""Descriptions of simulated agents: the same ones for a seed, in the shares that were asked for."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.fakes.fleet.profile import Profile, named, profiles
from tests.fakes.kinds import SECOND_NS


def test_a_seed_gives_the_same_profiles_again_and_another_seed_others() -> None:
    wanted: dict[str, Any] = {"stock": 0.5, "dead": 0.1, "delay_seconds": (0.001, 0.01), "set_seconds": (0.2, 0.9)}
    assert profiles(50, 1, **wanted) == profiles(50, 1, **wanted)
    assert profiles(50, 1, **wanted) != profiles(50, 2, **wanted)


def test_shares_are_exact() -> None:
    drawn = profiles(200, 3, stock=0.25, dead=0.1, ahead=0.29)
    assert sum(profile.kind == "stock" for profile in drawn) == 50
    assert sum(profile.fault == "silent" for profile in drawn) == 20
    assert sum(profile.offset_ns > 0 for profile in drawn) == 58


@pytest.mark.parametrize(("count", "dead"), [(100, 0.1), (10, 0.5), (7, 1.0), (1000, 0.29), (5, 0.0)])
def test_the_dead_are_spread_evenly(count: int, dead: float) -> None:
    numbers = [number for number, profile in enumerate(profiles(count, 1, dead=dead)) if profile.fault == "silent"]
    assert len(numbers) == round(count * dead)
    gaps = {behind - before for before, behind in itertools.pairwise(numbers)}
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_what_is_drawn_lies_in_its_range() -> None:
    drawn = profiles(
        100, 1, off_seconds=(2, 3), drift_ppm=(-7, 9), delay_seconds=(0.001, 0.002), set_seconds=(0.5, 0.75)
    )
    for profile in drawn:
        assert 2 * SECOND_NS <= abs(profile.offset_ns) <= 3 * SECOND_NS
        assert -7 <= profile.drift_ppm <= 9
        assert 0.001 <= profile.forward_seconds <= 0.002
        assert 0.001 <= profile.backward_seconds <= 0.002
        assert 0.5 <= profile.set_seconds <= 0.75
    assert len({profile.offset_ns for profile in drawn}) == 100


def test_without_more_it_is_behind_by_1_to_20_seconds_or_ahead() -> None:
    drawn = profiles(100, 1)
    assert {profile.offset_ns > 0 for profile in drawn} == {True, False}
    assert all(SECOND_NS <= abs(profile.offset_ns) <= 20 * SECOND_NS for profile in drawn)
    assert all(profile.fault == "none" and profile.forward_seconds == 0 for profile in drawn)


@pytest.mark.parametrize(
    "wrong", [{"kind": "windows"}, {"fault": "tired"}, {"forward_seconds": -0.1}, {"set_seconds": -1}]
)
def test_what_cannot_be_is_told_in_a_sentence(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong.values()))}"):
        Profile(**wrong)


@pytest.mark.parametrize("name", ["stock", "dead", "ahead"])
def test_a_share_beyond_all_is_refused(name: str) -> None:
    share: dict[str, Any] = {name: 1.5}
    with pytest.raises(ValueError, match=rf"{name} is 1\.5"):
        profiles(10, 1, **share)


def test_names_are_dealt_out_to_hosts_in_turn() -> None:
    drawn = profiles(5, 1)
    assert list(named(drawn)) == ["guest0001", "guest0002", "guest0003", "guest0004", "guest0005"]
    assert list(named(drawn, 2)) == [
        "host01/guest0001",
        "host02/guest0002",
        "host01/guest0003",
        "host02/guest0004",
        "host01/guest0005",
    ]
    assert list(named(drawn, 2).values()) == drawn

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.selection import (
    Candidate,
    Selected,
    Selection,
    select,
)
from hypothesis import given
from hypothesis import strategies as st


def uuid_of(name: str) -> str:
    return "uuid-" + name.encode().hex()


def candidates(*names: str) -> list[Candidate]:
    """Candidates as a hypervisor lists them: they also match by UUID, in upper or lower case."""
    return [Candidate(name, uuid_of(name)) for name in names]


def selected(wanted: Sequence[str], there: Iterable[Candidate], excluded: Sequence[str] = ()) -> Selection:
    guests = list(there)

    def named(entry: str) -> list[Candidate]:
        by_name = [guest for guest in guests if guest.name == entry]
        return by_name or [guest for guest in guests if guest.key == entry.lower()]

    return select(wanted, excluded, named, lambda pattern: [guest for guest in guests if guest.matches(pattern)])


def names(selection: Selection) -> list[str]:
    return [selected.name for selected in selection.guests]


WEB = candidates("web10", "db1", "web2", "web1", "cache")


# wanted, excluded; selected names, patterns that match nothing, repeated names
SELECTED: list[tuple[list[str], list[str], list[str], tuple[str, ...], tuple[str, ...]]] = [
    # Names, in their order. A UUID selects its guest.
    (["web2", "cache", "web1"], [], ["web2", "cache", "web1"], (), ()),
    ([], [], [], (), ()),
    ([uuid_of("web1")], [], ["web1"], (), ()),
    (["nosuch", "web1", "nosuch"], [], ["nosuch", "web1"], (), ()),
    # Patterns are the shell's and match the whole name.
    (["*"], [], ["cache", "db1", "web1", "web2", "web10"], (), ()),
    (["web*"], [], ["web1", "web2", "web10"], (), ()),
    (["web[13-9]*"], [], ["web1", "web10"], (), ()),
    (["[!w]*"], [], ["cache", "db1"], (), ()),
    (["WEB*"], [], [], ("WEB*",), ()),
    (["*b1"], [], ["db1", "web1"], (), ()),
    (["web1*", "c*", "*"], [], ["web1", "web10", "cache", "db1", "web2"], (), ()),
    (["x*", "web1", "y?", "d*"], [], ["web1", "db1"], ("x*", "y?"), ()),
    (["db1", "db*"], [], ["db1"], (), ()),
    (["db*", "!db1"], [], [], (), ()),
    (["uuid*"], [], [], ("uuid*",), ()),
    (["web1", "!uuid*"], [], ["web1"], (), ()),
    # Exclusions may stand anywhere. Alone, they select all others.
    (["!web*", "*"], [], ["cache", "db1"], (), ()),
    (["!web*"], [], ["cache", "db1"], (), ()),
    (["!web1", "!web2", "!web10"], [], ["cache", "db1"], (), ()),
    (["*", "!web1", "!web1?", "!web2"], [], ["cache", "db1"], (), ()),
    *[(["web*"], [entry], ["web2", "web10"], (), ()) for entry in ("web1", "!web1", "!w*1", uuid_of("web1").upper())],
    (["web1", "web2", "!" + uuid_of("web1")], [], ["web2"], (), ()),
    (["web1", "db1", uuid_of("web2"), "web*"], ["web?", "web10"], ["db1"], (), ()),
    (["web1", "!db9", "!x*"], ["y*"], ["web1"], (), ()),
    *[(["nosuch"], [excluded], [], (), ()) for excluded in ("nosuch", "no*", "*")],
    # A guest that is named twice is selected once, and each repetition is reported. A match is not a repetition.
    *[(["web1", "db1", again], [], ["web1", "db1"], (), (again,)) for again in ("web1", uuid_of("web1").upper())],
    (["web1", "web1", uuid_of("web1")], [], ["web1"], (), ("web1", uuid_of("web1"))),
    *[
        (wanted, [], ["web1", "web2", "web10"], (), ())
        for wanted in (["web1", "web*"], ["web*", "web1"], ["web*", "w*", "web1"])
    ],
    (["web1", "web1", "!web1", "db1"], [], ["db1"], (), ()),
]


@pytest.mark.parametrize(("wanted", "excluded", "found", "unmatched", "repeated"), SELECTED)
def test_selection_by_names_patterns_and_exclusions(
    wanted: list[str], excluded: list[str], found: list[str], unmatched: tuple[str, ...], repeated: tuple[str, ...]
) -> None:
    selection = selected(wanted, WEB, excluded)
    assert (names(selection), selection.unmatched, selection.repeated) == (found, unmatched, repeated)


@pytest.mark.parametrize("wanted", [["web1", "web*"], ["web*", "web1"]])
def test_a_name_takes_precedence_over_a_pattern(wanted: list[str]) -> None:
    by_name = {each.name: each.by_name for each in selected(wanted, WEB).guests}
    assert by_name == {"web1": True, "web2": False, "web10": False}
    assert not any(each.by_name for each in selected(["!web1"], WEB).guests)


def test_a_name_that_does_not_exist_is_selected_without_a_guest() -> None:
    assert selected(["nosuch"], WEB).guests == (Selected("nosuch", None, by_name=True),)


@pytest.mark.parametrize("name", ["web[1]", "web*", "web?", "[", "**"])
def test_a_name_with_pattern_characters_can_be_given_exactly(name: str) -> None:
    there = [*WEB, *candidates(name)]
    assert selected([name], there).guests == (Selected(name, there[-1], by_name=True),)
    assert name not in names(selected(["*", "!" + name], there))


def test_a_name_takes_precedence_over_a_uuid() -> None:
    impostor = Candidate(uuid_of("web1"), "another", ())
    assert selected([uuid_of("web1")], [*WEB, impostor]).guests[0].candidate is impostor


def test_the_pattern_for_all_guests_is_never_taken_as_a_name() -> None:
    for wanted in (["*"], ["!web1"]):
        assert names(selected(wanted, candidates("*", "db1"))) == ["*", "db1"]
    assert selected(["!web1"], []).unmatched == ("*",)


@pytest.mark.parametrize(
    "ordered",
    [
        ["web1", "web1a", "web1b2", "web1b10", "web2", "web10"],
        ["2", "10", "a"],
        ["web", "web0", "web1", "weba"],
        ["web9", "web99999999999999999999999999", "web100000000000000000000000000"],
        ["a-1-9", "a-1-10", "a-2-1"],
        ["web001", "web01", "web1"],
    ],
)
def test_numbers_in_names_are_sorted_as_numbers(ordered: list[str]) -> None:
    assert names(selected(["*"], candidates(*ordered[::-1]))) == names(selected(["*"], candidates(*ordered))) == ordered


NAMES = st.text("ab12[]*?", min_size=1, max_size=4)
ENTRIES = st.one_of(NAMES, NAMES.map(uuid_of))
WANTED = st.lists(st.builds(str.__add__, st.sampled_from(["", "", "!"]), ENTRIES), max_size=6)
THERE = st.lists(NAMES, max_size=8, unique=True).map(lambda found: candidates(*found))


@given(WANTED, THERE, st.lists(ENTRIES, max_size=3), st.randoms(use_true_random=False))
def test_every_selected_guest_exists_once_and_is_not_excluded(
    wanted: list[str], there: list[Candidate], excluded: list[str], random: Random
) -> None:
    found = selected(wanted, there, excluded)
    assert selected(wanted, random.sample(there, len(there)), excluded) == found
    keys = [each.name if each.candidate is None else each.candidate.key for each in found.guests]
    assert len(keys) == len(set(keys))
    known = {guest.name for guest in there} | {guest.key for guest in there}
    without = [entry[1:] for entry in wanted if entry.startswith("!")] + excluded
    for each in found.guests:
        assert (each.candidate is None) == (each.name not in known)
        assert each.by_name or each.candidate is not None
        assert each.name not in without
        assert each.candidate is None or uuid_of(each.name) not in without
        assert not any(Candidate(each.name, "").matches(entry) for entry in without)


@given(THERE, NAMES)
def test_a_guest_is_either_selected_or_excluded(there: list[Candidate], entry: str) -> None:
    left = {selected.name for selected in selected(["!" + entry], there).guests}
    assert left == {guest.name for guest in there if guest.name != entry and not guest.matches(entry)}

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet.selection import (
    Candidate,
    Selected,
    Selection,
    is_pattern,
    natural_key,
    select,
)
from hypothesis import given
from hypothesis import strategies as st


def uuid_of(name: str) -> str:
    return "uuid-" + name.encode().hex()


def candidates(*names: str) -> list[Candidate]:
    """Guests as a hypervisor has them: also known by a UUID, in any case."""
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


class TestNames:
    def test_in_the_order_in_which_they_are_named(self) -> None:
        assert names(selected(["web2", "cache", "web1"], WEB)) == ["web2", "cache", "web1"]

    def test_nothing_is_asked_for(self) -> None:
        assert selected([], WEB) == Selection((), (), ())
        assert selected([], WEB, ["web1"]) == Selection((), (), ())

    def test_by_uuid_it_is_the_guest_of_that_name(self) -> None:
        assert selected([uuid_of("web1")], WEB).guests == (Selected("web1", WEB[3], by_name=True),)

    def test_one_that_does_not_exist_is_chosen_without_a_guest(self) -> None:
        selection = selected(["web1", "nosuch"], WEB)
        assert selection.guests == (Selected("web1", WEB[3], by_name=True), Selected("nosuch", None, by_name=True))
        assert selection.unmatched == ()

    def test_one_that_does_not_exist_and_is_named_twice_is_one(self) -> None:
        assert names(selected(["nosuch", "web1", "nosuch"], WEB)) == ["nosuch", "web1"]

    @pytest.mark.parametrize("name", ["web[1]", "web*", "web?", "[", "**"])
    def test_one_with_a_patterns_characters_in_it_may_be_named_exactly(self, name: str) -> None:
        there = [*WEB, *candidates(name)]
        assert selected([name], there).guests == (Selected(name, there[-1], by_name=True),)

    def test_the_name_counts_before_the_uuid(self) -> None:
        impostor = Candidate(uuid_of("web1"), "another", ())
        assert selected([uuid_of("web1")], [*WEB, impostor]).guests[0].candidate is impostor


class TestPatterns:
    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("*", ["cache", "db1", "web1", "web2", "web10"]),
            ("web*", ["web1", "web2", "web10"]),
            ("web?", ["web1", "web2"]),
            ("web[13-9]*", ["web1", "web10"]),
            ("[!w]*", ["cache", "db1"]),
            ("WEB*", []),
            ("*b1", ["db1", "web1"]),
            ("eb*", []),
        ],
    )
    def test_they_are_the_shells_and_match_the_whole_name(self, pattern: str, found: list[str]) -> None:
        selection = selected([pattern], WEB)
        assert names(selection) == found
        assert selection.unmatched == (() if found else (pattern,))
        assert not any(selected.by_name for selected in selection.guests)

    def test_the_guests_of_each_come_in_the_order_of_the_patterns(self) -> None:
        assert names(selected(["web1*", "c*", "*"], WEB)) == ["web1", "web10", "cache", "db1", "web2"]

    def test_all_that_match_nothing_are_told(self) -> None:
        selection = selected(["x*", "web1", "y?", "d*"], WEB)
        assert selection.unmatched == ("x*", "y?")
        assert names(selection) == ["web1", "db1"]

    def test_one_whose_guests_have_all_been_named_before_has_matched(self) -> None:
        assert selected(["db1", "db*"], WEB).unmatched == ()

    def test_one_whose_guests_are_all_left_out_has_matched(self) -> None:
        assert selected(["db*", "!db1"], WEB) == Selection((), (), ())

    @pytest.mark.parametrize("wanted", [["*"], ["!web1"]])
    def test_the_one_for_all_guests_is_no_guests_name(self, wanted: list[str]) -> None:
        assert names(selected(wanted, candidates("*", "db1"))) == ["*", "db1"]

    def test_an_alias_is_matched_too(self) -> None:
        there = [Candidate("/run/100.qga", "/run/100.qga", ("100.qga",))]
        assert names(selected(["1*"], there)) == ["/run/100.qga"]

    def test_what_tells_guests_apart_is_no_name(self) -> None:
        assert names(selected(["uuid*"], WEB)) == []
        assert names(selected(["web1", "!uuid*"], WEB)) == ["web1"]

    @pytest.mark.parametrize(
        ("text", "is_one"),
        [
            ("web1", False),
            ("web*", True),
            ("web?", True),
            ("web[12]", True),
            ("web]", False),
            ("", False),
            ("!", False),
        ],
    )
    def test_what_is_one(self, text: str, is_one: bool) -> None:
        assert is_pattern(text) is is_one


class TestLeavingOut:
    @pytest.mark.parametrize(
        "entries",
        [["*", "!web*"], ["!web*", "*"], ["!web*"], ["!web1", "!web2", "!web10"], ["*", "!web1", "!web1?", "!web2"]],
    )
    def test_it_does_not_matter_where_it_stands_and_alone_it_means_all_others(self, entries: list[str]) -> None:
        assert names(selected(entries, WEB)) == ["cache", "db1"]

    @pytest.mark.parametrize("entry", ["web1", "!web1", "!w*1"])
    def test_an_exclusion_may_have_the_mark_that_it_does_not_need(self, entry: str) -> None:
        assert "web1" not in [guest.name for guest in selected(["*"], WEB, [entry]).guests]

    def test_what_is_excluded_is_left_out_however_it_is_named(self) -> None:
        wanted = ["web1", "db1", uuid_of("web2"), "web*"]
        assert names(selected(wanted, WEB, ["web?", "web10"])) == ["db1"]

    def test_excluding_alone_does_not_name_others(self) -> None:
        assert names(selected(["web1"], WEB, ["db1"])) == ["web1"]

    def test_all_others_are_matched_and_not_named(self) -> None:
        assert not any(selected.by_name for selected in selected(["!web1"], WEB).guests)

    def test_all_others_where_there_are_none_at_all(self) -> None:
        assert selected(["!web1"], []).unmatched == ("*",)

    @pytest.mark.parametrize("text", [uuid_of("web1"), uuid_of("web1").upper()])
    def test_by_any_of_its_names(self, text: str) -> None:
        assert names(selected(["web1", "web2"], WEB, [text])) == ["web2"]
        assert names(selected(["web1", "web2", "!" + text], WEB)) == ["web2"]

    def test_another_spelling_of_the_same_guest(self) -> None:
        link, real = Candidate("/run/link.qga", "/srv/1.qga"), Candidate("/srv/1.qga", "/srv/1.qga")
        named = {link.name: (link,), real.name: (real,)}
        assert select([link.name], [real.name], lambda entry: named.get(entry, ()), lambda _pattern: ()).guests == ()

    @pytest.mark.parametrize("excluded", ["nosuch", "no*", "*"])
    def test_one_that_does_not_exist(self, excluded: str) -> None:
        assert selected(["nosuch"], WEB, [excluded]) == Selection((), (), ())

    def test_one_with_a_patterns_characters_in_it(self) -> None:
        there = candidates("web[12]", "web3")
        assert names(selected(["*", "!web[12]"], there)) == ["web3"]

    def test_what_matches_nothing_leaves_out_nothing(self) -> None:
        assert names(selected(["web1", "!db9", "!x*"], WEB, ["y*"])) == ["web1"]


class TestRepeats:
    @pytest.mark.parametrize("again", ["web1", uuid_of("web1"), uuid_of("web1").upper()])
    def test_a_guest_that_is_named_twice_is_one_and_the_second_name_is_told(self, again: str) -> None:
        selection = selected(["web1", "db1", again], WEB)
        assert names(selection) == ["web1", "db1"]
        assert selection.repeated == (again,)

    def test_each_time_is_told(self) -> None:
        assert selected(["web1", "web1", uuid_of("web1")], WEB).repeated == ("web1", uuid_of("web1"))

    @pytest.mark.parametrize("wanted", [["web1", "web*"], ["web*", "web1"], ["web*", "w*", "web1"]])
    def test_one_that_is_named_and_matched_is_none(self, wanted: list[str]) -> None:
        selection = selected(wanted, WEB)
        assert names(selection) == ["web1", "web2", "web10"]
        assert selection.repeated == ()

    def test_to_be_named_counts_for_more_than_to_be_matched(self) -> None:
        for wanted in (["web1", "web*"], ["web*", "web1"]):
            assert {selected.name: selected.by_name for selected in selected(wanted, WEB).guests} == {
                "web1": True,
                "web2": False,
                "web10": False,
            }

    def test_one_that_is_left_out_is_none(self) -> None:
        assert selected(["web1", "web1", "!web1", "db1"], WEB) == Selection((Selected("db1", WEB[1], True),), (), ())


class TestNaturalOrder:
    @pytest.mark.parametrize(
        "ordered",
        [
            ["web1", "web2", "web10"],
            ["web1", "web1a", "web1b2", "web1b10", "web2"],
            ["2", "10", "a"],
            ["web0", "web1"],
            ["web", "web1", "weba"],
            ["web9", "web99999999999999999999999999", "web100000000000000000000000000"],
            ["a-1-9", "a-1-10", "a-2-1"],
        ],
    )
    def test_numbers_count_as_such(self, ordered: list[str]) -> None:
        assert names(selected(["*"], candidates(*ordered[::-1]))) == ordered

    def test_names_that_differ_in_leading_zeros_only_have_an_order_too(self) -> None:
        there = candidates("web1", "web001", "web01")
        assert names(selected(["*"], there)) == names(selected(["*"], reversed(there))) == ["web001", "web01", "web1"]

    def test_any_text_has_a_place(self) -> None:
        sorted(["", "1", "a", "²", "٣", "1²", "-1"], key=natural_key)


NAMES = st.text("ab12[]*?", min_size=1, max_size=4)
THERE = st.lists(NAMES, max_size=8, unique=True).map(lambda found: candidates(*found))
ENTRIES = st.lists(
    st.builds(str.__add__, st.sampled_from(["", "", "!"]), st.one_of(NAMES, NAMES.map(uuid_of))), max_size=6
)
EXCLUDED = st.lists(st.one_of(NAMES, NAMES.map(uuid_of)), max_size=3)


class TestProperties:
    @given(ENTRIES, THERE, EXCLUDED)
    def test_no_guest_comes_twice(self, wanted: list[str], there: list[Candidate], excluded: list[str]) -> None:
        guests = selected(wanted, there, excluded).guests
        found = [selected.name if selected.candidate is None else selected.candidate.key for selected in guests]
        assert len(found) == len(set(found))

    @given(ENTRIES, THERE, EXCLUDED)
    def test_nothing_that_is_left_out_appears(
        self, wanted: list[str], there: list[Candidate], excluded: list[str]
    ) -> None:
        without = [entry[1:] for entry in wanted if entry.startswith("!")] + excluded
        for each in selected(wanted, there, excluded).guests:
            assert each.name not in without
            assert each.candidate is None or uuid_of(each.name) not in without
            assert not any(Candidate(each.name, "").matches(entry) for entry in without)

    @given(ENTRIES, THERE, EXCLUDED, st.randoms(use_true_random=False))
    def test_the_order_in_which_the_hypervisor_lists_its_guests_makes_no_difference(
        self, wanted: list[str], there: list[Candidate], excluded: list[str], random: Random
    ) -> None:
        shuffled = random.sample(there, len(there))
        assert selected(wanted, shuffled, excluded) == selected(wanted, there, excluded)

    @given(THERE, NAMES)
    def test_what_is_chosen_and_what_is_left_out_are_all(self, there: list[Candidate], entry: str) -> None:
        left = {selected.name for selected in selected(["!" + entry], there).guests}
        out = {guest.name for guest in there if guest.name == entry or guest.matches(entry)}
        assert left | out == {guest.name for guest in there}
        assert not left & out

    @given(ENTRIES, THERE)
    def test_a_name_without_a_guest_is_told_or_left_out(self, wanted: list[str], there: list[Candidate]) -> None:
        known = {guest.name for guest in there} | {guest.key for guest in there}
        for each in selected(wanted, there).guests:
            assert (each.candidate is None) == (each.name not in known)
            assert each.by_name or each.candidate is not None

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Fleet, Settings, read_fleet
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.overview import remarks, share, tiles, verdict

from tests.support.fleet_results import (
    corrected,
    failed,
    host,
    host_clock,
    left_beyond,
    skipped,
    slewing,
    unchanged,
    unproven,
    would_correct,
)


def fleet(*hypervisors: dict[str, Any], check_mode: bool = False) -> Fleet:
    return Fleet.of(read_fleet(hypervisors), Settings(100_000_000, check_mode))


GOOD = "No guest failed."
BEYOND = "1 guest is beyond tolerance: x, 1 min 30 s ahead."


@pytest.mark.parametrize(
    ("guests", "tone", "sentences"),
    [
        ([], "idle", ["There were no guests."]),
        ([corrected("a")], "good", ["The guest is within tolerance."]),
        ([corrected("a"), unchanged("b")], "good", ["All 2 guests are within tolerance."]),
        ([{}], "bad", ["1 of 1 guest failed."]),
        ([corrected("a"), failed("b"), failed("c")], "bad", ["2 of 3 guests failed."]),
        # The most urgent comes first.
        ([skipped("a"), left_beyond("x")], "bad", [BEYOND, "1 of 2 guests was skipped."]),
        (
            [skipped("a"), failed("b"), left_beyond("x")],
            "bad",
            [BEYOND, "1 of 3 guests failed.", "1 of 3 guests was skipped."],
        ),
        (
            [left_beyond("a", -(10**9)), left_beyond("b", -(10**10))],
            "bad",
            ["2 guests are beyond tolerance, the worst: b, 10.0 s behind."],
        ),
        ([{"status": "corrected", "name": "a", "within_tolerance": False}], "bad", ["1 guest is beyond tolerance: a."]),
        (
            [slewing("a"), failed("b")],
            "bad",
            ["1 of 2 guests failed.", "1 of 2 guests is being slewed into tolerance."],
        ),
        ([unproven("a"), corrected("b")], "bad", ["1 of 2 guests failed.", "1 clock is not proven right."]),
        (
            [unproven("a"), unproven("b"), failed("c")],
            "bad",
            ["3 of 3 guests failed.", "2 clocks are not proven right."],
        ),
        ([corrected("a"), skipped("b")], "fair", [GOOD, "1 of 2 guests was skipped."]),
        (
            [slewing("a"), unchanged("b"), corrected("c", within_tolerance=None)],
            "fair",
            [
                GOOD,
                "1 of 3 guests is not known to be within tolerance.",
                "1 of 3 guests is being slewed into tolerance.",
            ],
        ),
        (
            [corrected("a"), slewing("b"), slewing("c", within_tolerance=None)],
            "fair",
            [GOOD, "2 of 3 guests are being slewed into tolerance."],
        ),
        (
            [unchanged("a"), would_correct("b"), would_correct("c")],
            "fair",
            [GOOD, "2 of 3 guests would be corrected."],
        ),
    ],
)
def test_the_verdict_has_every_sentence_that_holds(guests: list[Any], tone: str, sentences: list[str]) -> None:
    made = verdict(fleet(host("hv1", *guests)))
    assert (made.tone, [sentence.text for sentence in made.sentences]) == (tone, sentences)


def test_a_hypervisor_that_failed_is_never_good_news() -> None:
    made = verdict(fleet(host("hv1", corrected("a")), host("hv2", error={"code": "x"})))
    assert made == ("bad", [("1 of 2 hypervisors failed.", "#hypervisors-failed", "")])


def test_a_guest_is_named_with_its_hypervisor_if_there_are_several() -> None:
    made = verdict(fleet(host("hv1", left_beyond("100")), host("hv2", corrected("100"))))
    sentence = ("1 guest is beyond tolerance: 100 on hv1, 1 min 30 s ahead.", "#guests", "100")
    assert made == ("bad", [sentence])


@pytest.mark.parametrize(
    ("names", "error", "sentence"),
    [
        (["web9", "web8"], None, "Not found on any hypervisor: web8, web9."),
        (["\x1b"], None, "Not found on any hypervisor: \\u001b."),
        (["web9"], {"code": "timeout"}, "Not found on any hypervisor that answered: web9."),
        (
            [f"w{number:02}" for number in range(13)],
            None,
            "Not found on any hypervisor: w00, w01, w02, w03, w04, w05, w06, w07, w08, w09, and 3 more.",
        ),
    ],
)
def test_names_that_no_hypervisor_has_are_in_the_verdict(names: list[str], error: Any, sentence: str) -> None:
    made = verdict(fleet({**host("hv1", corrected("a")), "not_found": names}, host("hv2", error=error)))
    assert made.tone == "bad"
    assert sentence in [each.text for each in made.sentences]


def test_a_run_without_guests_is_bad() -> None:
    made = verdict(fleet(host("hv1", error={"code": "not_found"})))
    sentences = [("No guests were found.", "", ""), ("1 of 1 hypervisor failed.", "#hypervisors-failed", "")]
    assert made == ("bad", sentences)


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (1, "The clock of hypervisor hv0 is not synchronized."),
        (2, "The clocks of 2 hypervisors are not synchronized (hv0, hv1)."),
        (5, "The clocks of 5 hypervisors are not synchronized (hv0, hv1, hv2, …)."),
    ],
)
def test_clocks_of_hypervisors_that_are_not_synchronized_are_in_the_verdict(number: int, sentence: str) -> None:
    hosts = [host(f"hv{each}", corrected("a"), host_clock=host_clock(False)) for each in range(number)]
    hosts.append(host("hv9", corrected("a"), host_clock=host_clock()))
    everyone = f"All {number + 1} guests are within tolerance."
    assert verdict(fleet(*hosts)) == ("fair", [(everyone, "", ""), (sentence, "#hypervisors", "")])


def test_warnings_that_guests_share_are_one_group() -> None:
    guests = [corrected(f"a{each}", warnings=["shared"] + ["both"] * (each < 2)) for each in range(3)]
    guests += [corrected("b", warnings=["own"]), failed("c"), skipped("d")]
    skipped_guests, warnings = remarks(fleet(host("hv1", *guests)))
    assert (skipped_guests.title, warnings.title) == ("Skipped guests", "Warnings")
    found = [(group.size, group.hint, [case.guest.name for case in group.cases]) for group in warnings.groups]
    assert found == [
        ("3 guests", "shared", ["a0", "a1", "a2"]),
        ("2 guests", "both", ["a0", "a1"]),
        ("1 warning", None, ["b"]),
    ]
    assert warnings.groups[-1].cases[0].problem.message == "own"


def test_tiles_have_the_figures() -> None:
    results = (corrected("a"), slewing("b"), failed("c"))
    assert [
        (tile.name, tile.figure, " ".join(tile.notes)) for tile in tiles(fleet(host("hv1", *results), host("hv2")))
    ] == [
        ("Guests", "3", "1 not measured"),
        ("Corrected", "1", "33.3 %"),
        ("Unchanged", "0", "none"),
        ("Slewing", "1", "33.3 %"),
        ("Skipped", "0", "none"),
        ("Failed", "1", "33.3 %"),
        ("Largest before", "\u221221.0 s", "a hv1"),
        ("Largest left", "+200 ms", "b hv1"),
        ("Hypervisors", "2", "none failed"),
    ]


def test_in_check_mode_a_tile_counts_the_guests_that_a_run_would_correct() -> None:
    made = tiles(fleet(host("hv1", would_correct("a"), unchanged("b")), check_mode=True))
    assert [tile.name for tile in made[1:-3]] == ["Would correct", "Unchanged", "Skipped", "Failed"]
    assert (made[-1].figure, made[-1].notes) == ("1", ["none failed"])


def test_a_share_is_all_or_none_only_if_that_is_exact() -> None:
    assert [share(part, 10_000) for part in (0, 1, 5_000, 9_999, 10_000)] == ["none", "0.1 %", "50 %", "99.9 %", "all"]

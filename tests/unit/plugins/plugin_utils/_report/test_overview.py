from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.model import Fleet, Settings, read_fleet
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.overview import share, tiles, verdict

from tests.support.fleet_results import corrected, failed, host, skipped, slewing, unchanged, unproven

BEYOND = "is not known to be within tolerance"


def fleet(*hypervisors: dict[str, Any], check_mode: bool = False) -> Fleet:
    return Fleet.of(read_fleet(hypervisors), Settings(100_000_000, check_mode))


@pytest.mark.parametrize(
    ("guests", "tone", "sentences"),
    [
        ([], "idle", ["There was no guest to work on."]),
        ([corrected("a")], "good", ["The guest is within tolerance."]),
        ([corrected("a"), unchanged("b")], "good", ["All 2 guests are within tolerance."]),
        ([{}], "bad", ["1 of 1 guest failed."]),
        ([corrected("a"), failed("b"), failed("c")], "bad", ["2 of 3 guests failed."]),
        ([slewing("a"), failed("b")], "bad", ["1 of 2 guests failed."]),
        ([unproven("a"), corrected("b")], "bad", ["1 of 2 guests failed.", "1 clock is not proven right."]),
        (
            [unproven("a"), unproven("b"), failed("c")],
            "bad",
            ["3 of 3 guests failed.", "2 clocks are not proven right."],
        ),
        *(
            ([other, skipped("b")], "fair", ["No guest failed, but 1 of 2 guests was skipped."])
            for other in (corrected("a"), slewing("a"))
        ),
        *(
            ([slewing("a"), unchanged("b"), beyond], "fair", [f"No guest failed, but 1 of 3 guests {BEYOND}."])
            for beyond in (corrected("c", within_tolerance=False), corrected("c", within_tolerance=None))
        ),
        (
            [corrected("a"), slewing("b"), slewing("c", within_tolerance=None)],
            "fair",
            ["No guest failed, and 2 of 3 guests are being slewed into tolerance."],
        ),
    ],
)
def test_the_verdict_is_a_sentence(guests: list[Any], tone: str, sentences: list[str]) -> None:
    made = verdict(fleet(host("hv1", *guests)))
    assert (made.tone, [sentence.text for sentence in made.sentences]) == (tone, sentences)


def test_a_hypervisor_that_was_lost_is_never_good_news() -> None:
    made = verdict(fleet(host("hv1", corrected("a")), host("hv2", error={"code": "x"})))
    assert made == ("bad", [("1 of 2 hypervisors could not be worked on.", "#hypervisors-failed")])


def test_tiles_have_the_figures() -> None:
    results = (corrected("a"), slewing("b"), failed("c"))
    assert [(tile.name, tile.figure, tile.note) for tile in tiles(fleet(host("hv1", *results), host("hv2")))] == [
        ("Guests", "3", "1 not measured"),
        ("Corrected", "1", "33.3 %"),
        ("Unchanged", "0", "none"),
        ("Slewing", "1", "33.3 %"),
        ("Skipped", "0", "none"),
        ("Failed", "1", "33.3 %"),
        ("Largest before", "\u221221.0 s", "a on hv1"),
        ("Largest after", "+200 ms", "b on hv1"),
        ("Hypervisors", "2", "all worked on"),
    ]
    assert tiles(fleet(host("hv1", corrected("a")), check_mode=True))[1].name == "To correct"


def test_a_share_is_never_all_while_one_is_missing_and_never_nothing_of_what_is_there() -> None:
    assert [share(part, 10_000) for part in (0, 1, 5_000, 9_999, 10_000)] == ["none", "0.1 %", "50 %", "99.9 %", "all"]

from __future__ import annotations

from ansible_collections.qemu.guest_agent.plugins.plugin_utils._report.text import facts_summary, summary

from tests.support.fleet_results import (
    Fleet,
    corrected,
    failed,
    host,
    host_clock,
    left_beyond,
    skipped,
    slewing,
    unchanged,
    unproven,
)


def lines_of(fleet: Fleet) -> list[str]:
    return [line.replace("\u2013", "-") for line in summary(fleet)]


def test_lines_for_the_terminal() -> None:
    fleet = [
        host("hv1", corrected("web1"), unchanged("db1")),
        host("hv-two", failed("mail1", "timeout", "no answer within 5 s"), skipped("old1")),
        host("hv3", error={"code": "code", "message": "message", "hint": "Check."}),
    ]
    assert lines_of(fleet) == [
        "hypervisor  guests  corrected  unchanged  skipped  failed  largest before  largest left",
        "----------  ------  ---------  ---------  -------  ------  --------------  ------------",
        "hv1              2          1          1        0       0         -21.0 s      -48.2 µs",
        "hv-two           2          0          0        1       1               -             -",
        "hv3              0          0          0        0       0               -             -  code: message",
        "total            4          1          1        1       1         -21.0 s      -48.2 µs",
        "hv-two: mail1: timeout: no answer within 5 s",
    ]


def test_guests_that_are_being_slewed_have_a_column_of_their_own_where_there_are_any() -> None:
    assert lines_of([host("hv1", corrected("web1"), slewing("db1")), host("hv2", slewing("db2", -150_000_000))]) == [
        "hypervisor  guests  corrected  unchanged  slewing  skipped  failed  largest before  largest left",
        "----------  ------  ---------  ---------  -------  -------  ------  --------------  ------------",
        "hv1              2          1          0        1        0       0         -21.0 s       +200 ms",
        "hv2              1          0          0        1        0       0         -150 ms       -150 ms",
        "total            3          1          0        2        0       0         -21.0 s       +200 ms",
    ]


def test_a_run_that_gathered_facts_has_other_columns() -> None:
    gathered = {"name": "web1", "status": "gathered"}
    lost = {"code": "timeout", "message": "\x1b[2J{{ 7 }}", "hint": ""}
    assert facts_summary([host("hv1", gathered, corrected("web2"), skipped("web3")), host("hv22", error=lost)]) == [
        "hypervisor  guests  gathered  skipped  failed",
        "----------  ------  --------  -------  ------",
        "hv1              3         1        1       1",
        r"hv22             0         0        0       0  timeout: \u001b[2J{{ 7 }}",
        "total            3         1        1       1",
        "hv1: web2: unreadable_result: its result has no known status",
    ]


def test_clocks_that_are_not_proven_right_are_counted_and_at_most_twenty_failures_listed() -> None:
    assert lines_of([host("hv1", *(unproven(f"web{number}") for number in range(25)))])[-3:] == [
        "hv1: web19: not_converged: the clock is not proven to be within 0.1 s",
        "and 5 more",
        "25 clocks are not proven right.",
    ]


def test_guests_beyond_tolerance_and_names_that_were_not_found_come_before_failures() -> None:
    fleet = [
        {**host("hv1", left_beyond("100"), failed("101"), host_clock=host_clock(False)), "not_found": ["web9"]},
        host("hv2", corrected("100")),
    ]
    assert lines_of(fleet)[5:] == [
        "1 guest is beyond tolerance: 100 on hv1, 1 min 30 s ahead.",
        "Not found on any hypervisor: web9.",
        "hv1: 101: not_connected: no agent",
        "The clock of hypervisor hv1 is not synchronized.",
    ]


def test_names_of_wide_letters_stand_in_line() -> None:
    lines = lines_of([host("東京"), host("cafe\u0301"), host("hv1")])[2:5]
    # Two letters that take four columns, five of which one takes none, and three.
    assert [line.index("0") for line in lines] == [15, 18, 17]

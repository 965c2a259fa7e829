"""The tables of a run, made of the figures that build/bench.json has."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from tests.bench import Figures
from tests.bench.connection import CONNECTION, THEIRS
from tests.bench.fleet import SIZES, TIMEOUT_S
from tests.bench.inventory import DEAD, GUESTS
from tests.support.table import format_table

_RATIOS = """\
residual_ratio   {residual_ratio:.0f}   (virsh's median over the stock agent's)
info_over_ping   {info_over_ping:.2f}   (a qga_info task, subset min, over an ansible.builtin.ping task)"""

Row = list[str]


def row(label: str, spec: str, values: Iterable[object], *wanted: str) -> Row:
    """``spec`` formats each of the values; None is a dash."""
    return [label, *("-" if value is None else format(value, spec) for value in values), *wanted]


def report(figures: Figures) -> str:
    return "\n\n".join(
        [
            format_table(["", "qga_update_time, extended", "stock", "virsh domtime --now"], _corrections(figures)),
            _RATIOS.format(**figures),
            format_table(["one correction, median (ms)", "extended", "stock", "ratio"], _steps(figures)),
            format_table(["round trip in the guest, median (ms)", "extended", "stock", "ratio"], _trips(figures)),
            format_table(["the extended agent", "seen", "wanted"], _agent(figures)),
            format_table(["simulated guests in one task", "100", "1,000", "10,000"], _sizes(figures)),
            format_table(["the fleet", "seen", "wanted"], _fleet(figures)),
            format_table(["guests", "hypervisors", "seconds", "agents (s)", "report (MiB)"], _shapes(figures)),
            format_table(["over a connection plugin", CONNECTION, THEIRS, "ratio", "wanted"], connections(figures)),
            format_table(["the inventory", "seen", "wanted"], _inventory(figures)),
            format_table(
                ["from resume to right clock", "the service", "the rulebook", "virsh domtime --now"], _resumes(figures)
            ),
            format_table(["what happened", "times", "lines", "as wanted", "ms since the event"], _kinds(figures)),
            format_table(["simulated guests resumed at once", "seen", "wanted"], _burst(figures)),
            format_table(["four restored guests at once", "one task", "virsh domtime --now"], _real_fleet(figures)),
        ]
    )


def _corrections(figures: Figures) -> list[Row]:
    left_ms = [figures["extended_residual_ms"], *figures["residual_ms"].values()]
    seconds = [figures["extended_correction_s"], *figures["correction_s"].values()]
    return [
        row("residual, median (ms)", ".3f", (median(map(abs, each)) for each in left_ms)),
        row("residual, worst (ms)", ".3f", (max(map(abs, each)) for each in left_ms)),
        row("one correction, median (s)", ".3f", map(median, seconds)),
        row("corrections", "d", map(len, seconds)),
        row("witness within what was claimed", "d", (figures["extended_honest"], figures["honest"], None)),
    ]


def _steps(figures: Figures) -> list[Row]:
    both = figures["one_correction"]["extended"], figures["one_correction"]["set_time"]
    ours, theirs = (each["exchanges"] for each in both)
    return [
        row(label, ".1f", (*(each[f"{what}_ms"] for each in both), figures[ratio]))
        for label, what, ratio in (
            ("the command through libvirt", "command", "correction_ratio"),
            ("a resync's step", "step", "correction_step_ratio"),
            (f"a whole resync, {ours} and {theirs} exchanges", "resync", "correction_resync_ratio"),
        )
    ]


def _trips(figures: Figures) -> list[Row]:
    trips = {command: (each["extended"], each["stock"]) for command, each in figures["round_trip_ms"].items()}
    return [
        row(command, ".2f", (extended, stock, None if stock is None else extended / stock))
        for command, (extended, stock) in trips.items()
    ]


def _agent(figures: Figures) -> list[Row]:
    requests = figures["soak_requests"]
    left_ms = median(map(abs, figures["extended_residual_ms"]))
    return [
        row(label, spec, [value], wanted)
        for label, spec, value, wanted in (
            ("residual, median (ms)", ".3f", left_ms, "at most 0.3"),
            (
                "correction_ratio (guest-set-time over guest-update-time)",
                ".0f",
                figures["correction_ratio"],
                "at least 20",
            ),
            (
                "delegated_ratio (the worst of the delegated commands)",
                ".2f",
                figures["delegated_ratio"],
                "at most 2",
            ),
            (
                "  on a socket of this machine, one processor",
                ".2f",
                figures["native_one_processor_ratio"],
                "at most 2.5",
            ),
            ("  on a socket of this machine, all processors", ".2f", figures["native_all_processors_ratio"], "-"),
            ("resident memory (MiB)", ".1f", figures["resident_mib"], "at most 20"),
            (f"wake-ups in {figures['idle_s']} s of idleness", "d", figures["idle_wake_ups"], "0"),
            ("  with systemd's watchdog", "d", figures["idle_wake_ups_with_watchdog"], "-"),
            # Otherwise it would have raised an error.
            (f"replies to {requests:,} mixed requests, in order", ",", requests, "one each"),
            ("resident after them, on this machine (MiB)", ".1f", figures["soak_resident_kib"] / 1024, "at most 20"),
            ("grown by them (KiB)", "d", figures["soak_grown_kib"], "flat"),
            ("descriptors leaked by them", "d", figures["soak_leaked_descriptors"], "0"),
        )
    ]


def _sizes(figures: Figures) -> list[Row]:
    sized = [figures["fleet"][str(guests)] for guests in SIZES]
    tasks_s = (median(each["task_s"] for each in size["rounds"]) for size in sized)
    return [
        row("one task, median (s)", ".2f", tasks_s),
        row("in ping tasks, without the agents' share", ".1f", (each["over_ping"] for each in sized)),
        row("worst residual (ms)", ".3f", (each["worst_left_ms"] for each in sized)),
        row("peak memory (MiB)", ".0f", (each["peak_mib"] for each in sized)),
    ]


def _fleet(figures: Figures) -> list[Row]:
    peak_mib = figures["fleet"]["1000"]["peak_mib"]
    faster, dead = figures["fleet_over_per_guest"], figures["fleet_dead_costs_timeouts"]
    return [
        row(
            "1,000 guests over a ping task, without the agents' share", ".1f", [figures["fleet_over_ping"]], "at most 3"
        ),
        row("peak memory with 1,000 guests (MiB)", ".0f", [peak_mib], "at most 150"),
        row("growth from 1,000 to 10,000 over that from 100 to 1,000", ".2f", [figures["fleet_growth"]], "1"),
        row("fleet_over_per_guest (200 guests, a task for each)", ".0f", [faster], "at least 50"),
        row(f"a tenth dead, in time limits of {TIMEOUT_S:g} s", ".2f", [dead], "at most 1"),
    ]


def _shapes(figures: Figures) -> list[Row]:
    return [
        row(f"{shape['guests']:,}", "d", [shape["hypervisors"]])
        + [f"{shape[what]:.1f}" for what in ("seconds", "agents_s", "report_mib")]
        for shape in figures["hypervisors"]
    ]


def connections(figures: Figures) -> list[Row]:
    rows = []
    for name, label, wanted in (
        ("raw", "raw: true, what a command costs by itself, median (s)", "-"),
        ("ping", "ping, median (s)", "at least 2"),
        ("compiled", "ping, with no code kept in the guest, median (s)", "-"),
        ("copy", "copying 10 MiB at random, median (s)", "at least 3"),
        ("text", "copying 10 MiB of a log, median (s)", "at least 3"),
    ):
        seconds = figures[f"connection_{name}_s"].values()
        shown = ["it cannot" if each is None else f"{each:.2f}" for each in seconds]
        rows.append([label, *shown, *row("", ".2f", [figures[f"connection_{name}_ratio"]], wanted)[1:]])
    return rows


def _inventory(figures: Figures) -> list[Row]:
    dead = f"{GUESTS} guests, {DEAD} of them dead, time limit {TIMEOUT_S:g} s (s)"
    return [
        row(dead, ".2f", [figures["inventory_s"]], f"at most {figures['inventory_wanted_s']:g}"),
        row(f"{GUESTS} guests that answer (s)", ".2f", [figures["inventory_alive_s"]], "-"),
        row("no guest: ansible-inventory itself (s)", ".2f", [figures["inventory_empty_s"]], "-"),
        row("the guests with the dead ones, one by one (s)", ".1f", [figures["inventory_one_by_one_s"]], "-"),
        row("times faster than one by one", ".1f", [figures["inventory_over_one_by_one"]], "-"),
    ]


def _resumes(figures: Figures) -> list[Row]:
    ways = [figures["resume_to_correct_ms"][name] for name in ("service", "rulebook", "virsh_domtime_now")]
    of_the_service = (
        ("from the event, undisturbed: at most (ms)", "resume_limit_ms"),
        ("resident memory (MiB), at most 40", "resync_service_resident_mib"),
        (f"processor in {figures['resync_service_idle_s']:g} s of idleness (ms)", "resync_service_idle_cpu_ms"),
    )
    return [
        row("median (ms)", ".1f", (way["resume_to_correct_ms"] for way in ways)),
        row("worst (ms)", ".1f", (way["worst_ms"] for way in ways)),
        row("left, median (ms)", ".3f", (way["left_ms"] for way in ways)),
        row("left, worst (ms)", ".3f", (way["left_worst_ms"] for way in ways)),
        *(row(label, ".1f", (figures[key], None, None)) for label, key in of_the_service),
    ]


def _kinds(figures: Figures) -> list[Row]:
    rows = []
    for name, kind in figures["resume_kinds"].items():
        taken = kind["since_event_ms"]
        spread = f"{median(taken):.1f}, worst {max(taken):.1f}" if taken else "-"
        rows.append(row(name, "d", (kind["happened"], kind["lines"], kind["as_wanted"]), spread))
    return rows


def _burst(figures: Figures) -> list[Row]:
    guests, worst_ms = figures["resume_burst_guests"], max(figures["resume_burst_worst_since_event_ms"])
    corrected = min(figures["resume_burst_corrected"])
    return [
        row(f"corrected of {guests} resumed at once", "d", [corrected], str(guests)),
        row("from the first event to the last line (s)", ".2f", [median(figures["resume_burst_s"])], "-"),
        row("from a guest's event to its step, worst (ms)", ".0f", [worst_ms], "-"),
    ]


def _real_fleet(figures: Figures) -> list[Row]:
    left_ms = figures["real_fleet_residual_ms"].values()
    honest = f"{figures['real_fleet_honest']} of {len(figures['real_fleet_residual_ms']['qga_update_time'])}"
    return [
        row("residual, median (ms)", ".3f", map(median, left_ms)),
        row("residual, worst (ms)", ".3f", map(max, left_ms)),
        row("all of them, median (s)", ".2f", map(median, figures["real_fleet_s"].values())),
        ["witness within what was claimed", honest, "-"],
    ]

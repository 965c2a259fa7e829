"""The tables of a run, from the figures in build/bench.json."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median

from tests.bench import Figures
from tests.bench.connection import THEIRS
from tests.bench.fleet import SIZES, TIMEOUT_S
from tests.bench.inventory import DEAD, GUESTS
from tests.processes.ansible_run import CONNECTION
from tests.support.table import format_table

_RATIOS = """\
residual_ratio   {residual_ratio:.0f}   (virsh's median over the stock agent's)
info_over_ping   {info_over_ping:.2f}   (a qga_info task, subset min, over an ansible.builtin.ping task)"""

Row = list[str]
# A table's head and its rows.
Table = tuple[Row, list[Row]]


def row(label: str, spec: str, values: Iterable[object], *wanted: str) -> Row:
    """``spec`` formats each of the values; None is a dash."""
    return [label, *("-" if value is None else format(value, spec) for value in values), *wanted]


def report(figures: Figures) -> str:
    tables = [format_table(*table) for table in (*_of_one_guest(figures), *_of_fleets(figures))]
    return "\n\n".join([tables[0], _RATIOS.format(**figures), *tables[1:]])


def _of_one_guest(figures: Figures) -> Iterator[Table]:
    left_ms = [figures["extended_residual_ms"], *figures["residual_ms"].values()]
    seconds = [figures["extended_correction_s"], *figures["correction_s"].values()]
    yield (
        ["", "qga_update_time, extended", "stock", "virsh domtime --now"],
        [
            row("residual, median (ms)", ".3f", (median(map(abs, each)) for each in left_ms)),
            row("residual, worst (ms)", ".3f", (max(map(abs, each)) for each in left_ms)),
            row("one correction, median (s)", ".3f", map(median, seconds)),
            row("corrections", "d", map(len, seconds)),
            row("witness within the reported uncertainty", "d", (figures["extended_honest"], figures["honest"], None)),
        ],
    )
    both = figures["one_correction"]["extended"], figures["one_correction"]["set_time"]
    whole = "a whole resync, {} and {} exchanges".format(*(each["exchanges"] for each in both))
    yield (
        ["one correction, median (ms)", "extended", "stock", "ratio"],
        [
            row(label, ".1f", (*(each[f"{what}_ms"] for each in both), figures[ratio]))
            for label, what, ratio in (
                ("the command through libvirt", "command", "correction_ratio"),
                ("a resync's step", "step", "correction_step_ratio"),
                (whole, "resync", "correction_resync_ratio"),
            )
        ],
    )
    trips = {command: (each["extended"], each["stock"]) for command, each in figures["round_trip_ms"].items()}
    yield (
        ["round trip in the guest, median (ms)", "extended", "stock", "ratio"],
        [row(command, ".2f", (ours, stock, stock and ours / stock)) for command, (ours, stock) in trips.items()],
    )
    requests = figures["soak_requests"]
    ratios = [figures[f"native_{where}_processor{s}_ratio"] for where, s in (("one", ""), ("all", "s"))]
    resident_mib, watched = figures["soak_resident_kib"] / 1024, figures["idle_wake_ups_with_watchdog"]
    slower, delegated = figures["correction_ratio"], figures["delegated_ratio"]
    yield (
        ["the extended agent", "measured", "required"],
        [
            row("residual, median (ms)", ".3f", [median(map(abs, left_ms[0]))], "at most 0.3"),
            row("correction_ratio (guest-set-time over guest-update-time)", ".0f", [slower], "at least 20"),
            row("delegated_ratio (the slowest delegated command)", ".2f", [delegated], "at most 2"),
            row("  on a socket of this machine, one processor", ".2f", ratios[:1], "at most 2.5"),
            row("  on a socket of this machine, all processors", ".2f", ratios[1:], "-"),
            row("resident memory (MiB)", ".1f", [figures["resident_mib"]], "at most 20"),
            row(f"wake-ups in {figures['idle_s']} idle seconds", "d", [figures["idle_wake_ups"]], "0"),
            row("  with systemd's watchdog", "d", [watched], "-"),
            # The benchmark fails otherwise.
            row(f"replies to {requests:,} mixed requests, in order", ",", [requests], "one each"),
            row("resident memory after them, on this machine (MiB)", ".1f", [resident_mib], "at most 20"),
            row("memory growth (KiB)", "d", [figures["soak_grown_kib"]], "flat"),
            row("leaked descriptors", "d", [figures["soak_leaked_descriptors"]], "0"),
        ],
    )
    yield ["over a connection plugin", CONNECTION, THEIRS, "ratio", "required"], list(_connections(figures))
    ways = [figures["resume_to_correct_ms"][name] for name in ("service", "rulebook", "virsh_domtime_now")]
    idle = f"processor time in {figures['resync_service_idle_s']:g} idle seconds (ms)"
    yield (
        ["from resume to correct clock", "the service", "the rulebook", "virsh domtime --now"],
        [
            row("median (ms)", ".1f", (way["resume_to_correct_ms"] for way in ways)),
            row("worst (ms)", ".1f", (way["worst_ms"] for way in ways)),
            row("residual, median (ms)", ".3f", (way["left_ms"] for way in ways)),
            row("residual, worst (ms)", ".3f", (way["left_worst_ms"] for way in ways)),
            row("limit from the event, undisturbed (ms)", ".1f", (figures["resume_limit_ms"], None, None)),
            row("resident memory (MiB), at most 40", ".1f", (figures["resync_service_resident_mib"], None, None)),
            row(idle, ".1f", (figures["resync_service_idle_cpu_ms"], None, None)),
        ],
    )
    rows = []
    for name, kind in figures["resume_kinds"].items():
        taken = kind["since_event_ms"]
        spread = f"{median(taken):.1f}, worst {max(taken):.1f}" if taken else "-"
        rows.append(row(name, "d", (kind["happened"], kind["lines"], kind["as_wanted"]), spread))
    yield ["event", "times", "log lines", "as expected", "ms since the event"], rows


def _connections(figures: Figures) -> Iterator[Row]:
    for name, label, wanted in (
        ("raw", "raw: true, the cost of a command, median (s)", "-"),
        ("ping", "ping, median (s)", "at least 2"),
        ("compiled", "ping, without code cached in the guest, median (s)", "-"),
        ("copy", "copying 10 MiB of random bytes, median (s)", "at least 3"),
        ("text", "copying 10 MiB of a log, median (s)", "at least 3"),
    ):
        shown = ["failed" if each is None else f"{each:.2f}" for each in figures[f"connection_{name}_s"].values()]
        yield [label, *shown, *row("", ".2f", [figures[f"connection_{name}_ratio"]], wanted)[1:]]


def _of_fleets(figures: Figures) -> Iterator[Table]:
    sized = [figures["fleet"][str(guests)] for guests in SIZES]
    tasks_s = (median(each["task_s"] for each in size["rounds"]) for size in sized)
    yield (
        ["simulated guests in one task", "100", "1,000", "10,000"],
        [
            row("one task, median (s)", ".2f", tasks_s),
            row("in ping tasks, without the agents' share", ".1f", (each["over_ping"] for each in sized)),
            row("worst residual (ms)", ".3f", (each["worst_left_ms"] for each in sized)),
            row("peak memory (MiB)", ".0f", (each["peak_mib"] for each in sized)),
        ],
    )
    over_ping, peak_mib = figures["fleet_over_ping"], sized[1]["peak_mib"]
    faster, dead = figures["fleet_over_per_guest"], figures["fleet_dead_costs_timeouts"]
    yield (
        ["the fleet", "measured", "required"],
        [
            row("1,000 guests relative to a ping task, without the agents' share", ".1f", [over_ping], "at most 3"),
            row("peak memory with 1,000 guests (MiB)", ".0f", [peak_mib], "at most 150"),
            row("growth from 1,000 to 10,000 relative to 100 to 1,000", ".2f", [figures["fleet_growth"]], "1"),
            row("fleet_over_per_guest (200 guests, one task per guest)", ".0f", [faster], "at least 50"),
            row(f"a tenth dead, in timeouts of {TIMEOUT_S:g} s", ".2f", [dead], "at most 1"),
        ],
    )
    yield (
        ["guests", "hypervisors", "seconds", "agents (s)", "report (MiB)"],
        [
            [f"{shape['guests']:,}", f"{shape['hypervisors']}"]
            + [f"{shape[what]:.1f}" for what in ("seconds", "agents_s", "report_mib")]
            for shape in figures["hypervisors"]
        ],
    )
    dead_too = f"{GUESTS} guests, {DEAD} of them dead, timeout {TIMEOUT_S:g} s (s)"
    at_most = f"at most {figures['inventory_wanted_s']:g}"
    yield (
        ["the inventory", "measured", "required"],
        [
            row(dead_too, ".2f", [figures["inventory_s"]], at_most),
            row(f"{GUESTS} guests that answer (s)", ".2f", [figures["inventory_alive_s"]], "-"),
            row("no guest: ansible-inventory itself (s)", ".2f", [figures["inventory_empty_s"]], "-"),
            row("all guests, dead ones included, one by one (s)", ".1f", [figures["inventory_one_by_one_s"]], "-"),
            row("times faster than one by one", ".1f", [figures["inventory_over_one_by_one"]], "-"),
        ],
    )
    guests, worst_ms = figures["resume_burst_guests"], max(figures["resume_burst_worst_since_event_ms"])
    corrected = min(figures["resume_burst_corrected"])
    yield (
        ["simulated guests resumed at once", "measured", "required"],
        [
            row(f"corrected of {guests} resumed at once", "d", [corrected], str(guests)),
            row("from the first event to the last line (s)", ".2f", [median(figures["resume_burst_s"])], "-"),
            row("from a guest's event to its step, worst (ms)", ".0f", [worst_ms], "-"),
        ],
    )
    left_ms = figures["real_fleet_residual_ms"]
    honest = f"{figures['real_fleet_honest']} of {len(left_ms['qga_update_time'])}"
    yield (
        ["four restored guests at once", "one task", "virsh domtime --now"],
        [
            row("residual, median (ms)", ".3f", map(median, left_ms.values())),
            row("residual, worst (ms)", ".3f", map(max, left_ms.values())),
            row("all guests, median (s)", ".2f", map(median, figures["real_fleet_s"].values())),
            ["witness within the reported uncertainty", honest, "-"],
        ],
    )

# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's metrics, in Prometheus's text format (version 0.0.4)."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from itertools import accumulate
from typing import Iterable, Iterator, Sequence

from guest_agent._clock.report import SLEWING

from .result import ResyncResult

_SECOND_NS = 1_000_000_000

# In seconds: from offsets that are usually within the tolerance, up to a guest that was saved for a month.
_OFFSET_BOUNDS = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 86400, 604800, 2592000)
_RESIDUAL_BOUNDS = (0.00001, 0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1, 1)
_RESUME_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

Labels = Sequence["tuple[str, str]"]


class Histogram:
    """``bounds`` are the upper limits of the buckets, ascending. One more bucket counts larger values.

    In the sum, a larger value counts as the last bound: otherwise one guest that claims centuries would dominate it.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += min(value, self._bounds[-1])

    @property
    def count(self) -> int:
        return sum(self._counts)

    def cumulative(self) -> Iterator[tuple[str, int]]:
        """Yield each bound, as text, with the number of values up to it."""
        return zip((*(f"{bound:.10g}" for bound in self._bounds), "+Inf"), accumulate(self._counts))


class Metrics:
    """Counts from its creation on. ``connected``: whether each hypervisor is watched, by URI.
    ``in_progress``: the number of resyncs that are running.
    """

    def __init__(self, uris: Iterable[str]) -> None:
        self._started = time.time()
        self._resyncs: Counter[tuple[str, str, str]] = Counter()
        self.connected = dict.fromkeys(uris, False)
        self.in_progress = 0
        self._offset_found = Histogram(_OFFSET_BOUNDS)
        self._residual = Histogram(_RESIDUAL_BOUNDS)
        self._resume_to_corrected = Histogram(_RESUME_BOUNDS)

    def add(self, result: ResyncResult) -> None:
        self._resyncs[result.cause, result.status, result.code] += 1
        report = result.report
        if report is not None:
            self._offset_found.observe(abs(report.before.ns) / _SECOND_NS)
            if report.after is not None and result.status != SLEWING:
                self._residual.observe(abs(report.after.ns) / _SECOND_NS)
        if result.resume_to_step_ns is not None and result.error is None:
            self._resume_to_corrected.observe(result.resume_to_step_ns / _SECOND_NS)

    def text(self) -> str:
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        name = "qga_resync_total"
        yield from _head(name, "counter", "Resyncs by cause, result and error code.")
        for labels, count in sorted(self._resyncs.items()):
            yield _sample(name, count, tuple(zip(("cause", "result", "code"), labels)))
        for name, meaning, histogram in (
            ("qga_resync_offset_found_seconds", "Absolute offset of a guest's clock when found.", self._offset_found),
            ("qga_resync_residual_seconds", "Absolute offset of a guest's clock after a step.", self._residual),
            (
                "qga_resync_resume_to_corrected_seconds",
                "Time from libvirt's event to the last step of the guest's clock.",
                self._resume_to_corrected,
            ),
        ):
            yield from _head(name, "histogram", meaning)
            for bound, count in histogram.cumulative():
                yield _sample(f"{name}_bucket", count, (("le", bound),))
            yield _sample(f"{name}_sum", histogram.sum)
            yield _sample(f"{name}_count", histogram.count)
        name = "qga_resync_hypervisor_connected"
        yield from _head(name, "gauge", "Whether the hypervisor is watched.")
        for uri, is_connected in sorted(self.connected.items()):
            yield _sample(name, int(is_connected), (("uri", uri),))
        name = "qga_resync_in_progress"
        yield from _head(name, "gauge", "Resyncs that are running.")
        yield _sample(name, self.in_progress)
        name = "qga_resync_start_time_seconds"
        yield from _head(name, "gauge", "When the service started, in seconds since 1970.")
        yield _sample(name, self._started)


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"


def _sample(name: str, value: float, labels: Labels = ()) -> str:
    named = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
    return f"{name}{{{named}}} {value!r}" if named else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

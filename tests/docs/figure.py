"""The figure of the guide "measuring": exchanges with a real stock agent, and the interval that they prove together.

``python -m tests.docs.figure record`` takes new readings of an agent on this machine, whose true offset is therefore
known: it is zero. ``python -m tests.docs.figure draw`` draws them. No clock is set.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.collection import ROOT, make_importable

DATA = Path(__file__).with_name("measurement.yml")
PICTURE = ROOT / "docs" / "docsite" / "rst" / "images" / "measurement.svg"
EXCHANGES = 7

# Sizes in the units of the picture, which has to be legible at the width of a phone.
WIDTH = 560
_LEFT, _RIGHT = 34, 14
_TOP, _ROW, _BAR = 60, 30, 16
_STEPS_US = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Bounds(NamedTuple):
    """An interval in nanoseconds of offset."""

    low: int
    high: int


def intersections(intervals: Sequence[Bounds]) -> list[Bounds]:
    """Return the interval that the first one proves, the first two together, and so on."""
    agreed = [intervals[0]]
    for each in intervals[1:]:
        agreed.append(Bounds(max(agreed[-1].low, each.low), min(agreed[-1].high, each.high)))
    return agreed


def load() -> list[Bounds]:
    return [Bounds(*each) for each in yaml.safe_load(DATA.read_text(encoding="utf-8"))["intervals_ns"]]


def record() -> None:
    make_importable()
    from ansible_collections.qemu.guest_agent.plugins.module_utils import _targets as targets
    from ansible_collections.qemu.guest_agent.plugins.module_utils._agent import GuestAgent
    from ansible_collections.qemu.guest_agent.plugins.module_utils._clock import measuring
    from ansible_collections.qemu.guest_agent.plugins.module_utils._event_loop import tasks
    from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import Limits

    from tests.processes.stock_agent import StockAgent, exchange

    async def take(socket: str) -> list[Any]:
        async with targets.target_of({"socket": socket}, Limits()).open() as channel:
            read = measuring.stock_reader(GuestAgent(channel, 5.0))
            return [await read() for _number in range(EXCHANGES)]

    with StockAgent() as stock:
        readings = tasks.run(take(stock.socket))
        version = exchange(stock.socket, "guest-info")["return"]["version"]
    # From monotonic time to time of day: the closest of many pairs is exact to a fraction of a microsecond.
    pairs = ((time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _number in range(1000))
    before, now, after = min(pairs, key=lambda pair: pair[2] - pair[0])
    base_ns = now - (before + after) // 2
    intervals = [each.interval.shifted(-base_ns) for each in readings]
    lines = [
        f"# Readings of qemu-ga {version} on the machine whose clock it reads: python -m tests.docs.figure record",
        "intervals_ns:",
        *(f"  - [{each.low}, {each.high}]" for each in intervals),
    ]
    DATA.write_text("---\n" + "\n".join(lines) + "\n", encoding="utf-8")


def draw(intervals: Sequence[Bounds]) -> str:
    """Return the picture as SVG: for each exchange its own interval, and within it the intersection so far."""
    agreed = intersections(intervals)
    low, high = min(each.low for each in intervals), max(each.high for each in intervals)
    margin = (high - low) // 25
    scale = (WIDTH - _LEFT - _RIGHT) / (high - low + 2 * margin)

    def x(offset_ns: float) -> float:
        return round(_LEFT + (offset_ns - low + margin) * scale, 1)

    bottom = _TOP + _ROW * len(intervals)
    parts = [
        _text(_LEFT, 20, "Proven by each exchange (light), and by all so far (dark)", "title"),
        _text(x(0), 46, "true offset", "truth", "middle"),
    ]
    step = next((each * 1000 for each in _STEPS_US if (high - low) / (each * 1000) <= 7), 10_000_000)
    for tick in range(-(-low // step) * step, high + 1, step):
        parts.append(f'<line class="grid" x1="{x(tick)}" x2="{x(tick)}" y1="{_TOP - 6}" y2="{bottom + 4}"/>')
        parts.append(
            _text(x(tick), bottom + 22, f"{tick / 1000:+g}".replace("-", "\u2212") if tick else "0", "", "middle")
        )
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 44, "guest minus host, in microseconds", "", "middle"))
    for number, (own, so_far) in enumerate(zip(intervals, agreed, strict=True)):
        top = _TOP + _ROW * number + (_ROW - _BAR) // 2
        parts.append(_text(_LEFT - 12, top + _BAR - 3, str(number + 1), "", "end"))
        for kind, bounds in (("own", own), ("agreed", so_far)):
            width = round(max((bounds.high - bounds.low) * scale, 1.0), 1)
            parts.append(f'<rect class="{kind}" x="{x(bounds.low)}" y="{top}" width="{width}" height="{_BAR}" rx="2"/>')
    parts.append(f'<line class="true" x1="{x(0)}" x2="{x(0)}" y1="{_TOP - 8}" y2="{bottom + 4}"/>')
    last = agreed[-1]
    middle_us, half_us = (last.low + last.high) / 2000, (last.high - last.low) / 2000
    result = f"Result: {middle_us:+.1f} \u00b5s \u00b1{half_us:.1f} \u00b5s".replace("-", "\u2212")
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 72, result, "result", "middle"))
    height = bottom + 88
    body = "\n".join(f"  {part}" for part in parts)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}">
  <title>Intervals of successive exchanges</title>
  <style>
    text {{ font: 14.5px sans-serif; fill: #333 }}
    .title, .result {{ font-weight: bold }}
    .truth {{ fill: #b3261e }}
    .own {{ fill: #b9d3ee }}
    .agreed {{ fill: #1f5f99 }}
    .grid {{ stroke: #ddd }}
    .true {{ stroke: #b3261e; stroke-width: 2; stroke-dasharray: 5 3 }}
  </style>
  <rect width="{WIDTH}" height="{height}" rx="6" fill="#fff"/>
{body}
</svg>
"""


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f'<text{attribute} x="{round(x, 1)}" y="{y}" text-anchor="{anchor}">{text}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.docs.figure", description=__doc__)
    parser.add_argument("action", choices=("record", "draw"))
    if parser.parse_args().action == "record":
        record()
    PICTURE.write_text(draw(load()), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The picture of the report in the guides: python -m tests.docs.report_picture. It needs Chromium and its driver."""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support.collection import ROOT, make_importable
from tests.support.fleet_results import small_fleet

PICTURE = ROOT / "docs" / "docsite" / "rst" / "images" / "report.png"
WIDTH = 1280
# The page from its top to the end of the chart.
_HEIGHT = "return Math.ceil(document.querySelector('.chart').closest('section').getBoundingClientRect().bottom) + 14"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLORS = 256


def main() -> None:
    make_importable()
    from tests.support.browser import started_browser

    with tempfile.TemporaryDirectory() as directory, started_browser(Path(directory)) as browser:
        browser.look(width=WIDTH)
        browser.open(small_fleet())
        browser.look(width=WIDTH, height=browser.run(_HEIGHT))
        browser.painted()
        browser.picture(PICTURE)
    PICTURE.write_bytes(with_palette(PICTURE.read_bytes()))


def with_palette(png: bytes) -> bytes:
    """Return an RGB picture with a palette of its most frequent colors: a third of the size, and it looks the same."""
    parts = dict(_parts(png))
    width, height, *kind = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    if kind != [8, 2, 0, 0, 0]:
        raise ValueError(f"not an RGB picture: {kind}")
    rows = list(_rows(zlib.decompress(parts[b"IDAT"]), 3 * width))
    pixels = [[row[at : at + 3] for at in range(0, len(row), 3)] for row in rows]
    counts = Counter(pixel for row in pixels for pixel in row)
    palette = [color for color, _count in counts.most_common(_COLORS)]
    nearest = {color: _nearest(color, palette) for color in counts}
    data = b"".join(b"\0" + bytes(nearest[pixel] for pixel in row) for row in pixels)
    return _SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", b"".join(palette)),
            (b"IDAT", zlib.compress(data, 9)),
            (b"IEND", b""),
        )
    )


def _parts(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each part with its name; those with pixels joined, and last."""
    at, pixels = len(_SIGNATURE), b""
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        name, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        if name == b"IDAT":
            pixels += body
        else:
            yield name, body
        at += 12 + length
    yield b"IDAT", pixels


def _rows(data: bytes, size: int) -> Iterator[bytes]:
    """Undo the filters of a PNG's rows (PNG, third edition, section 9)."""
    above = bytes(size)
    for start in range(0, len(data), size + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + size])
        for at in range(size):
            left, over, corner = (row[at - 3], above[at], above[at - 3]) if at >= 3 else (0, above[at], 0)
            row[at] = (row[at] + (0, left, over, (left + over) // 2, _paeth(left, over, corner))[kind]) & 0xFF
        yield bytes(row)
        above = bytes(row)


def _paeth(left: int, over: int, corner: int) -> int:
    guess = left + over - corner
    return min((left, over, corner), key=lambda value: abs(guess - value))


def _nearest(color: bytes, palette: list[bytes]) -> int:
    return min(
        range(len(palette)), key=lambda number: sum(abs(a - b) for a, b in zip(color, palette[number], strict=True))
    )


if __name__ == "__main__":
    main()

from __future__ import annotations

import struct
import zlib

from tests.docs.report_picture import PICTURE, WIDTH, with_palette

RED, BLUE = b"\xff\0\0", b"\0\0\xff"


def part(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def test_the_picture_is_small_and_as_wide_as_the_guides_expect() -> None:
    png = PICTURE.read_bytes()
    assert len(png) < 150_000
    assert struct.unpack_from(">I", png, 16) == (WIDTH,)


def test_a_picture_gets_a_palette_whatever_its_filters_are() -> None:
    # Two pixels in each row, the first red and the second blue: none, sub, up, average and Paeth.
    rows = b"\0" + RED + BLUE
    rows += b"\1" + RED + bytes((1, 0, 255))
    rows += b"\2" + bytes(6)
    rows += b"\3" + bytes((128, 0, 0)) + bytes((129, 0, 128))
    rows += b"\4" + bytes(6)
    header = struct.pack(">IIBBBBB", 2, 5, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    pixels = zlib.compress(rows)
    made = with_palette(
        signature + part(b"IHDR", header) + part(b"IDAT", pixels[:5]) + part(b"IDAT", pixels[5:]) + part(b"IEND", b"")
    )
    assert made == signature + part(b"IHDR", struct.pack(">IIBBBBB", 2, 5, 8, 3, 0, 0, 0)) + part(
        b"PLTE", RED + BLUE
    ) + part(b"IDAT", zlib.compress(b"\0\0\1" * 5, 9)) + part(b"IEND", b"")

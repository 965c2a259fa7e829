# Copyright (c) 2026, the qemu.guest_agent maintainers
# GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests are read once, and whatever else comes is told as the in-guest agent tells it."""

from __future__ import annotations

from tests.fakes.fleet.reading import Asked, Reader
from tests.support.extended_agent import module

wire = module("_protocol.framing", "guest_agent")


def read(reader: Reader, data: bytes) -> list[Asked]:
    decoder = wire.Decoder()
    decoder.feed(data)
    return [reader.read(event) for event in decoder]


def test_requests_without_arguments_become_known_with_and_without_newline() -> None:
    reader = Reader()
    (asked,) = read(reader, b'{"execute": "guest-get-clock"}\n')
    assert reader.known[b'{"execute": "guest-get-clock"}'] is asked
    assert reader.known[b'{"execute": "guest-get-clock"}\n'] is asked


def test_nothing_else_does() -> None:
    reader = Reader()
    for data in (
        b'{"execute": "guest-sync", "arguments": {"id": 1}}',
        b'{"execute": "guest-ping", "id": 1}',
        b"[]",
        b"{]",
        b'{"execute": "%b"}' % (b"x" * 300),
    ):
        assert read(reader, data)
    assert reader.known == {}


def test_so_many_are_known_and_no_more() -> None:
    reader = Reader()
    for number in range(1000):
        read(reader, b'{"execute": "guest-%d"}' % number)
        assert len(reader.known) <= 2 * 128

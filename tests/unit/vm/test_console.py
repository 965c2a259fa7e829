from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.console import TAIL_LINES, Console

PANIC = """\
\x1bc\x1b[?7l\x1b[2JSeaBIOS (version 1.16.2-debian-1.16.2-1)\r
Booting from ROM..\r
[    0.018000] Kernel panic - not syncing: IO-APIC + timer doesn't work!  Boot with apic=debug and send a report.\r
[    0.018000] CPU: 0 PID: 0 Comm: swapper/0 Not tainted 6.1.0-44-cloud-amd64 #1  Debian 6.1.164-1\r
"""


@pytest.fixture
def console(tmp_path: Path) -> Console:
    return Console(tmp_path / "console.log")


def test_a_panic_is_told_in_the_kernels_words(console: Console) -> None:
    console.path.write_text(PANIC)
    assert console.panic() == "IO-APIC + timer doesn't work!  Boot with apic=debug and send a report."


def test_a_guest_that_boots_has_not_panicked(console: Console) -> None:
    console.path.write_text("SeaBIOS\r\nBooting from ROM..\r\n")
    assert console.panic() is None


def test_its_end_is_shown_without_what_moves_the_cursor(console: Console) -> None:
    console.path.write_text(PANIC)
    assert console.tail().splitlines()[:2] == ["SeaBIOS (version 1.16.2-debian-1.16.2-1)", "Booting from ROM.."]


def test_what_somebody_in_the_guest_wrote_is_found(console: Console) -> None:
    console.path.write_text("Booting from ROM..\r\n214 was stopped\r\n")
    assert console.has_said("214 was stopped")
    assert not console.has_said("215 was stopped")


def test_its_end_is_short(console: Console) -> None:
    console.path.write_text("".join(f"line {number}\n\n" for number in range(1000)))
    assert console.tail().splitlines() == [f"line {number}" for number in range(1000 - TAIL_LINES, 1000)]


@pytest.mark.parametrize("content", [None, b"", b"\xff\x1b[2J\r\n"])
def test_what_was_never_written_or_is_no_text_is_no_defect(console: Console, content: bytes | None) -> None:
    if content is not None:
        console.path.write_bytes(content)
    assert console.panic() is None
    assert console.tail() in ("(nothing)", "\ufffd")

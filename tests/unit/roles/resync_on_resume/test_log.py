"""Log lines: one line for each event, and each value reads back unchanged."""

from __future__ import annotations

import errno
import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.resync_service import module, parse

log = module("log")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("qemu:///system", "qemu:///system"),
        (-48211, "-48211"),
        (r"a\b", r"a\b"),
        ("größe", "größe"),
        ("", '""'),
        ("größe 2", '"größe 2"'),
        ("a=b", '"a=b"'),
        ('say "yes"', r'"say \"yes\""'),
        ("one\nresync guest=web2", r'"one\nresync guest=web2"'),
        ("a\u202eb", r'"a\u202eb"'),
        ("\udcff", r'"\udcff"'),
    ],
)
def test_values_are_quoted_if_necessary_and_none_is_omitted(value: object, written: str) -> None:
    assert log.line("resync", [("guest", value), ("error", None)]) == f"resync guest={written}"


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]+", fullmatch=True), st.text()), unique_by=lambda pair: pair[0]))
def test_any_values_are_one_line_that_reads_back(fields: list[tuple[str, str]]) -> None:
    written = log.line("event", fields)
    assert len(written.splitlines()) == 1
    assert written.isprintable()
    assert parse(written) == ("event", dict(fields))


@pytest.mark.parametrize(("stream", "prefix"), [("8:1", ("<6>", "<4>")), ("", ("", ""))])
def test_only_the_journal_gets_priorities(
    stream: str, prefix: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    made = log.standard_log({"JOURNAL_STREAM": stream})
    made.info("watching", [("running", 1)])
    made.warning("lost")
    assert capsys.readouterr().err == f"{prefix[0]}watching running=1\n{prefix[1]}lost\n"


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_is_not_an_error() -> None:
    closed = io.StringIO()
    closed.close()
    for target in (FullDisk(), closed):
        log.Log(target, for_journal=False).info("watching")

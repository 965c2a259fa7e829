"""The log: its contents, and that it never disturbs the agent."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.extended_agent import module

Log = module("log").Log


@pytest.mark.parametrize(("verbose", "levels"), [(True, ["error", "info"]), (False, ["error"])])
def test_a_line_has_the_stock_agents_form_and_only_a_verbose_log_has_more_than_errors(
    tmp_path: Path, verbose: bool, levels: list[str]
) -> None:
    log = Log(str(tmp_path / "log"), verbose)
    log.error("it happened: \udcff")
    log.info("it happened: \udcff")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [re.fullmatch(r"\d{10}\.\d{6}: (\w+): it happened: \\udcff", line)[1] for line in lines] == levels


def test_a_log_is_private_appended_to_and_reopened_after_rotation(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    Log(str(path)).error("first")
    log = Log(str(path))
    log.error("second")
    assert path.stat().st_mode & 0o777 == 0o600
    path.rename(moved)
    log.error("third")
    log.reopen()
    log.error("fourth")
    assert [line.rpartition(" ")[2] for line in moved.read_text().splitlines()] == ["first", "second", "third"]
    assert path.read_text().endswith("fourth\n")


def test_it_writes_nothing_while_file_systems_are_frozen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(str(path), verbose=True)
    path.unlink()
    log.is_silent = True
    log.error("it broke")
    log.info("it works")
    log.reopen()
    assert not path.exists()


def test_a_full_disk_does_not_end_the_agent() -> None:
    log = Log("/dev/full")
    log.error("it broke")
    log.error("it broke again")
    with pytest.raises(OSError, match="No space left"):
        log._file.close()

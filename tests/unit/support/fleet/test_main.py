"""The command line for trying things by hand: what it takes, and what it says to what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.fleet import __main__ as program


def test_defaults() -> None:
    options = program.parse(["/fleet"])
    assert options.directory == Path("/fleet")
    assert (options.count, options.hosts, options.seed) == (1000, 0, 1)
    assert (options.dead, options.stock, options.delay) == (0, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--count", "0"], "'0' is not a number of agents, 1 or more"),
        (["--count", "many"], "'many' is not a number of agents, 1 or more"),
        (["--dead", "1.5"], "'1.5' is not a share from 0 to 1"),
        (["--stock", "nan"], "'nan' is not a share from 0 to 1"),
        (["--delay", "-1"], "'-1' is not a number of seconds"),
        ([], "required: DIRECTORY"),
    ],
)
def test_wrong_input_gets_a_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.parse([*arguments, "/fleet"] if arguments else [])
    assert sentence in capsys.readouterr().err


def test_a_place_that_cannot_be_used_gets_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([f"/{'x' * 200}", "--count", "1"]) == 1
    assert "too long for a socket" in capsys.readouterr().err

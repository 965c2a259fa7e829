"""Run all saved inputs, including those that once found a defect, through their fuzz targets."""

from __future__ import annotations

import pytest

from tests.fuzz import corpus, engines
from tests.fuzz.targets import TARGETS

SAVED = [(target, name) for target in TARGETS for name in corpus.inputs(target)]


def test_every_target_has_saved_inputs() -> None:
    assert {target for target, _name in SAVED} == set(TARGETS)


@pytest.mark.parametrize(("target", "name"), SAVED)
def test_a_saved_input_finds_no_defect(target: str, name: str) -> None:
    TARGETS[target](corpus.inputs(target)[name])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_hypothesis_can_drive_every_target(target: str) -> None:
    done = engines.by_hypothesis(target, 0.2)
    assert done.complaint == ""
    assert done.executions > 0


def test_hypothesis_tries_at_least_one_input() -> None:
    assert engines.by_hypothesis("decoder", 0.0).executions == 1


def test_a_defect_is_found_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(data: bytes) -> None:
        assert b"\0" not in data, "a zero"

    monkeypatch.setitem(TARGETS, "decoder", defective)  # type: ignore[arg-type]
    done = engines.by_hypothesis("decoder", 20.0)
    assert "a zero" in done.complaint
    assert done.crash is not None
    assert b"\0" in done.crash

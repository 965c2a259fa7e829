"""All inputs that are kept, those that have found a defect among them, through what they were kept for."""

from __future__ import annotations

import pytest

from tests.fuzz import corpus, engines
from tests.fuzz.targets import TARGETS

KEPT = [(target, name) for target in TARGETS for name in corpus.inputs(target)]


def test_there_are_some_for_each_target() -> None:
    assert {target for target, _name in KEPT} == set(TARGETS)


@pytest.mark.parametrize(("target", "name"), KEPT)
def test_a_kept_input_finds_no_defect(target: str, name: str) -> None:
    TARGETS[target](corpus.inputs(target)[name])


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_hypothesis_can_drive_it(target: str) -> None:
    done = engines.by_hypothesis(target, 0.2)
    assert done.complaint == ""
    assert done.executions > 0


def test_hypothesis_tries_one_input_however_late_it_is_made() -> None:
    assert engines.by_hypothesis("decoder", 0.0).executions == 1


def test_a_defect_is_found_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(data: bytes) -> None:
        assert b"\0" not in data, "a zero"

    monkeypatch.setitem(TARGETS, "decoder", defective)  # type: ignore[arg-type]
    done = engines.by_hypothesis("decoder", 20.0)
    assert "a zero" in done.complaint
    assert done.crash is not None
    assert b"\0" in done.crash

"""Every attack of the fixed list through every channel, against the modules themselves.

At most, a module may fail with a documented code, or return a result that is well-formed, typed and, as far as the
agent did not lie, true, within the time of the options and the memory of the message limits.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.fakes.clock import Clock
from tests.hostile.agent import HostileAgent
from tests.hostile.attacks import LIBVIRT
from tests.hostile.case import Verdict
from tests.hostile.cases import MODULES, OTHER_STREAMS, UNIX, Round, rounds
from tests.hostile.checks import faults
from tests.hostile.workers import Workers
from tests.support.tiers import chosen

_AT_ONCE = 6
# About one in so many runs in the quick tier.
_ONE_IN = {UNIX: 12, LIBVIRT: 24, **dict.fromkeys(OTHER_STREAMS, 48)}

Played = Future[tuple[Clock, Verdict]]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, workers: Workers) -> Iterator[Mapping[Round, Played]]:
    """All selected rounds, several at a time, because most are waiting most of the time."""

    def play(each: Round) -> tuple[Clock, Verdict]:
        agent = each.attack.agent()
        return agent.clock, workers.play(agent, each.channel, each.module, **each.options)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {each: pool.submit(play, each) for (each,) in chosen(request, "each")}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def honest(workers: Workers) -> dict[str, Any]:
    """The result of each module for an honest guest."""
    verdicts = {
        work: workers.play(HostileAgent(), UNIX, module, **options) for work, (module, options) in MODULES.items()
    }
    return {work: verdict.result["guest"] for work, verdict in verdicts.items() if verdict.result is not None}


def is_thorough(each: Round) -> bool:
    """Decide by the name, because similar attacks follow each other at regular distances."""
    return zlib.crc32(str(each).encode()) % _ONE_IN[each.channel] != 0


@pytest.mark.parametrize(
    "each",
    [pytest.param(each, id=str(each), marks=pytest.mark.thorough if is_thorough(each) else ()) for each in rounds()],
)
def test_an_attack_has_no_effect(each: Round, played: Mapping[Round, Played], honest: Mapping[str, Any]) -> None:
    clock, verdict = played[each].result()
    assert list(faults(each, clock, verdict, honest[each.attack.work])) == []

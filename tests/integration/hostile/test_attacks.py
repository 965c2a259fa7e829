"""Every attack of the fixed list through every channel, played to the modules themselves.

What an agent may make them do is at most: fail with a documented code, or return what is well-formed, typed and, as far
as the agent did not lie, true; in the time that the options allow and in the memory that a message's limit allows.
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
# About one in so many is not thorough.
_ONE_IN = {UNIX: 12, LIBVIRT: 24, **dict.fromkeys(OTHER_STREAMS, 48)}

Played = Future[tuple[Clock, Verdict]]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, workers: Workers) -> Iterator[Mapping[Round, Played]]:
    """All rounds that were chosen, several at a time: most wait for most of their time."""

    def play(each: Round) -> tuple[Clock, Verdict]:
        agent = each.attack.agent()
        return agent.clock, workers.play(agent, each.channel, each.module, **each.options)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {each: pool.submit(play, each) for (each,) in chosen(request, "each")}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def honest(workers: Workers) -> dict[str, Any]:
    """What each module returns of an honest guest."""
    verdicts = {
        work: workers.play(HostileAgent(), UNIX, module, **options) for work, (module, options) in MODULES.items()
    }
    return {work: verdict.result["guest"] for work, verdict in verdicts.items() if verdict.result is not None}


def is_thorough(each: Round) -> bool:
    """By its name: attacks that are alike follow each other at regular distances."""
    return zlib.crc32(str(each).encode()) % _ONE_IN[each.channel] != 0


@pytest.mark.parametrize(
    "each",
    [pytest.param(each, id=str(each), marks=pytest.mark.thorough if is_thorough(each) else ()) for each in rounds()],
)
def test_an_attack_comes_to_nothing(each: Round, played: Mapping[Round, Played], honest: Mapping[str, Any]) -> None:
    clock, verdict = played[each].result()
    assert list(faults(each, clock, verdict, honest[each.attack.work])) == []

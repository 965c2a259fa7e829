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

from tests.hostile.agent import HostileAgent, honestly
from tests.hostile.attacks import LIBVIRT
from tests.hostile.case import Verdict
from tests.hostile.cases import MODULES, OTHER_STREAMS, UNIX, Round, rounds
from tests.hostile.checks import Records, faults
from tests.hostile.guest import EXTENDED, Guest
from tests.hostile.workers import Workers, reached
from tests.support.tiers import chosen

_AT_ONCE = 6
# About one in so many is not thorough.
_ONE_IN = {UNIX: 12, LIBVIRT: 24, **dict.fromkeys(OTHER_STREAMS, 48)}

Played = Future[tuple[Guest, Verdict]]


def play(workers: Workers, each: Round) -> tuple[Guest, Verdict]:
    agent = each.attack.agent()
    with reached(agent, each.channel, each.module, **each.options) as case:
        return agent.guest, workers.run(case)


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest, workers: Workers) -> Iterator[Mapping[Round, Played]]:
    """All rounds that were chosen, several at a time: most wait for most of their time."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {each: pool.submit(play, workers, each) for (each,) in chosen(request, "each")}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def honest(workers: Workers) -> dict[str, dict[str, Any]]:
    """What each module returns of an honest guest."""

    def entry(work: str) -> dict[str, Any]:
        module, options = MODULES[work]
        with reached(HostileAgent(Guest(EXTENDED), honestly), UNIX, module, **options) as case:
            result = workers.run(case).result
        assert result is not None
        found: dict[str, Any] = result["guest"]
        return found

    return {work: entry(work) for work in MODULES}


def is_thorough(each: Round) -> bool:
    """By its name: attacks that are alike follow each other at regular distances."""
    return zlib.crc32(str(each).encode()) % _ONE_IN[each.channel] != 0


@pytest.mark.parametrize(
    "each",
    [pytest.param(each, id=str(each), marks=pytest.mark.thorough if is_thorough(each) else ()) for each in rounds()],
)
def test_an_attack_comes_to_nothing(
    each: Round, played: Mapping[Round, Played], honest: Mapping[str, Any], records: Records
) -> None:
    guest, verdict = played[each].result()
    records.add(each.channel, "attacks", str(each.attack), verdict)
    assert list(faults(each, guest, verdict, honest[each.attack.work])) == []

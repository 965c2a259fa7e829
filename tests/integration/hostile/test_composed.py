"""Random combinations of attacks and meaningless bytes, for the cases that the fixed list does not have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.faults import HangUp, Piece
from tests.hostile import payloads
from tests.hostile.agent import EXTENDED, STOCK, Asked, HostileAgent, Play, honestly
from tests.hostile.attacks import ATTACKS, LIBVIRT
from tests.hostile.cases import MODULES, UNIX
from tests.hostile.checks import general_faults
from tests.hostile.workers import Workers

# All codes that an attack may cause, and the code of a broken connection to libvirt.
_CODES = frozenset(code for attack in ATTACKS for code in attack.codes_by(LIBVIRT))
_SECONDS = 0.1
# Two attempts, each with measurements of seconds; a busy machine takes longer.
_LONGEST_SECONDS = 90.0

_PLAYS: dict[str, Play] = {
    **payloads.SILENT,
    **payloads.ENDLESS,
    **payloads.DRIPPING,
    **payloads.CLOSING,
    **payloads.MALFORMED,
    **payloads.REFUSING,
    **payloads.HARMLESS,
    **payloads.AROUND,
    **payloads.SYNCING,
}
_PIECES = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"'", b"\\", b"\\u12", b"\\ud800"),
    *(b'{"return": ', b'{"return": {}}', b'{"error": {"desc": "', b'"class": "GenericError"', b'"id": 1', b'"event"'),
    *(b"0", b"-", b"1e99", b"9" * 30, b"true", b"null", b"nonsense"),
    *(b" ", b"\n", b"\r", b"\0", b"\x1b[2J", b"\xff", b"\xfe", b"\xc3", b"\xe2\x80\xae", b"\xed\xa0\x80"),
]

garbage = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=6), min_size=1, max_size=12).map(b"".join)


moves: st.SearchStrategy[Play] = st.one_of(
    st.just(honestly),
    st.sampled_from(sorted(_PLAYS)).map(_PLAYS.__getitem__),
    garbage.map(payloads.instead),
    garbage.map(lambda data: lambda _asked: [data, HangUp()]),
    st.tuples(garbage, garbage).map(lambda data: lambda asked: [data[0], asked.answer(), data[1]]),
)
# A few honest replies first; otherwise, only the sync would be reached.
scripts = st.tuples(st.integers(0, 12), st.lists(moves, min_size=1, max_size=4), st.booleans())


def script_of(honest: int, hostile: Sequence[Play], goes_on: bool) -> Play:
    """Play ``honest`` honest replies, each hostile play, and then the hostile plays again or honest replies."""

    def play(asked: Asked) -> Iterable[Piece]:
        number = asked.number - honest
        if number < 0 or (number >= len(hostile) and not goes_on):
            return honestly(asked)
        return hostile[number % len(hostile)](asked)

    return play


@settings(
    # Each example is a run of a module.
    max_examples=settings.default.max_examples // 3,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    script=scripts,
    kind=st.sampled_from((STOCK, EXTENDED)),
    channel=st.sampled_from((UNIX, UNIX, UNIX, LIBVIRT)),
    work=st.sampled_from(sorted(MODULES)),
)
def test_combined_attacks_have_no_effect(workers: Workers, script: Any, kind: str, channel: str, work: str) -> None:
    module, options = MODULES[work]
    agent = HostileAgent(script_of(*script), kind)
    verdict = workers.play(agent, channel, module, **options, timeout=_SECONDS)
    assert list(general_faults(channel, module, verdict, {}, _CODES)) == []
    assert verdict.seconds < _LONGEST_SECONDS

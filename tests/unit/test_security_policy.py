"""SECURITY.md names code and a test for each promise, and both must exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels import stream
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts import subsets
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.limits import CLOCK_REPLIES, FACTS_REPLIES

ROOT = Path(__file__).parents[2]
POLICY = (ROOT / "SECURITY.md").read_text()
PROMISES = [
    line.split(" | ") for line in POLICY.splitlines() if re.match(r"\| .* \| .*`(unit|integration|vm|fuzz)", line)
]
MIB = 1024 * 1024


def test_there_are_promises() -> None:
    assert len(PROMISES) > 10


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[0][2:50])
def test_the_tests_of_each_promise_exist(promise: list[str]) -> None:
    named = re.findall(r"`((?:unit|integration|vm|fuzz|hostile)/[^` ]*)`", promise[-1])
    assert named or "molecule" in promise[-1]
    for path in named:
        assert (ROOT / "tests" / path).exists(), path


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise[0][2:50])
def test_the_code_of_each_promise_exists(promise: list[str]) -> None:
    for path, name in re.findall(r"`([\w/]+\.(?:py|sh))`(?: \(`(\w+)`\))?", " ".join(promise[1:-1])):
        named = [file.read_text() for top in ("plugins", "roles") for file in (ROOT / top).glob(f"**/{path}")]
        assert any(re.search(rf"^(class|def) {name}\b" if name else "", text, re.MULTILINE) for text in named), path


def test_the_limits_are_those_of_the_code() -> None:
    assert CLOCK_REPLIES.size == 64 * 1024
    assert FACTS_REPLIES.size == subsets._MOST_BYTES == 2 * MIB
    assert f"{subsets._MOST_VALUES:,} values" in POLICY
    assert f"after {stream._MOST_UNSOLICITED} messages or {stream._MOST_BYTES // MIB} MiB" in POLICY

from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._channels.refusals import (
    Meaning,
    command_named,
    from_words,
    meaning_of,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Refused

from tests.fakes.kinds import REFUSED_WORDS


@pytest.mark.parametrize("kind", ["GenericError", "CommandNotFound", "CommandDisabled", "Unsupported", "Other", ""])
@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        (REFUSED_WORDS["disabled since 0.15"], Meaning.DISABLED),
        (REFUSED_WORDS["disabled since 6.1"], Meaning.DISABLED),
        ("Command {} has been disabled", Meaning.DISABLED),
        ("The command has been disabled for this instance", Meaning.DISABLED),
        ("command {} is disabled", Meaning.DISABLED),
        ("Command {} not allowed", Meaning.DISABLED),
        (REFUSED_WORDS["frozen since 6.1"], Meaning.FROZEN),
        (REFUSED_WORDS["frozen, of another vendor"], Meaning.FROZEN),
        (REFUSED_WORDS["unsupported"], Meaning.UNSUPPORTED),
        ("This feature or command is not currently supported", Meaning.UNSUPPORTED),
        ("suspend-to-disk not supported by OS", Meaning.UNSUPPORTED),
        ("the requested suspend mode is not supported by the guest", Meaning.UNSUPPORTED),
        (REFUSED_WORDS["missing"], Meaning.MISSING),
        ("The command has not been found", Meaning.MISSING),
        ("Command {} not found", Meaning.MISSING),
    ],
)
def test_words_decide_whatever_the_class(kind: str, words: str, meaning: Meaning) -> None:
    refused = Refused(kind, words.format("guest-get-time"))
    assert meaning_of(refused) is meaning
    assert command_named(refused) == ("guest-get-time" if "{}" in words else None)
    class_of_new_agents = "GenericError" if meaning is Meaning.UNSUPPORTED else "CommandNotFound"
    assert from_words(refused.description) == Refused(class_of_new_agents, refused.description)


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("CommandNotFound", Meaning.MISSING),
        ("CommandDisabled", Meaning.DISABLED),
        ("Unsupported", Meaning.UNSUPPORTED),
        ("GenericError", Meaning.FAILED),
        ("", Meaning.FAILED),
    ],
)
@pytest.mark.parametrize("words", ["", "no", "unbekannter Befehl: guest-get-time"])
def test_the_class_decides_where_the_words_are_unknown(kind: str, words: str, meaning: Meaning) -> None:
    assert meaning_of(Refused(kind, words)) is meaning


@pytest.mark.parametrize(
    "words",
    [
        "failed to open file '/the command x has been disabled' (mode: 'r'): No such file or directory",
        "failed to open file '/x not supported by the guest' (mode: 'r'): No such file or directory",
        "Guest agent command failed, error was 'Command x has been disabled'",
        "failed to trim /: Operation not supported",
        'Failed to execute child process "frozen" (No such file or directory)',
        "JSON parse error, stray 'x'",
        "Commander X",
        "",
        "x" * 100_000 + " has been disabled",
    ],
    ids=lambda words: words[:60],
)
def test_an_agents_error_about_its_work_is_not_a_refusal_of_the_command(words: str) -> None:
    refused = Refused("GenericError", words)
    assert (meaning_of(refused), command_named(refused)) == (Meaning.FAILED, None)
    assert from_words(words) == refused

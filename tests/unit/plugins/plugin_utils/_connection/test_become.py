from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.become import Dialogue
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import BecomeError

PROMPT = "[sudo via ansible, key=abc] password:"
ASKED = PROMPT.encode()


class Sudo:
    """What Ansible's plugin of that name does."""

    prompt: object = PROMPT

    def check_success(self, b_output: bytes) -> bool:
        return b"BECOME-SUCCESS-abc" in b_output

    def check_password_prompt(self, b_output: bytes) -> bool:
        return ASKED in b_output


@pytest.fixture
def dialogue() -> Dialogue:
    return Dialogue(Sudo(), b"secret", 10.0)


@pytest.mark.parametrize("stream", [0, 1])
def test_the_password_is_given_when_it_is_asked_for_and_once(dialogue: Dialogue, stream: int) -> None:
    assert dialogue.answer(b"", b"We trust you have received the usual lecture") is None
    heard = [b"", b""]
    heard[stream] = b"lecture\n" + ASKED + b" "
    assert [dialogue.answer(*heard) for _time in range(2)] == [b"secret", None]


def test_being_asked_again_is_a_failure_with_the_reason_and_without_the_password(dialogue: Dialogue) -> None:
    dialogue.answer(b"", ASKED)
    with pytest.raises(BecomeError, match="not accepted: Sorry, try again") as caught:
        dialogue.answer(b"", ASKED + b"\nSorry, try again.\n" + ASKED)
    assert "secret" not in caught.value.message


def test_it_is_over_when_the_command_has_begun(dialogue: Dialogue) -> None:
    assert [dialogue.is_over(output) for output in (b"BECOME", b"BECOME-SUCCESS-abc\n")] == [False, True]


@pytest.mark.parametrize(
    ("prompt", "errors", "left"),
    [
        *((PROMPT, errors, errors) for errors in (b"", b"oops\n")),
        (PROMPT, ASKED + b" ", b""),
        (PROMPT, b"lecture\n" + ASKED + b" oops\n", b"lecture\noops\n"),
        *((prompt, b"Password: oops", b"Password: oops") for prompt in (True, None, "")),
    ],
)
def test_a_prompt_that_is_known_is_not_the_commands_own(
    monkeypatch: pytest.MonkeyPatch, dialogue: Dialogue, prompt: object, errors: bytes, left: bytes
) -> None:
    monkeypatch.setattr(Sudo, "prompt", prompt)
    assert dialogue.without_prompt(errors) == left

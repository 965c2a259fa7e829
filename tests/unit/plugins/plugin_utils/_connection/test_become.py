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


def test_nothing_is_said_before_it_is_asked(dialogue: Dialogue) -> None:
    assert dialogue.answer(b"", b"") is None
    assert dialogue.answer(b"", b"We trust you have received the usual lecture") is None


@pytest.mark.parametrize("stream", [0, 1])
def test_the_password_is_given_when_it_is_asked_for_and_once(dialogue: Dialogue, stream: int) -> None:
    heard = [b"", b""]
    heard[stream] = b"lecture\n" + ASKED + b" "
    assert dialogue.answer(*heard) == b"secret"
    assert dialogue.answer(*heard) is None


def test_being_asked_again_is_a_failure_with_the_reason_and_without_the_password(dialogue: Dialogue) -> None:
    dialogue.answer(b"", ASKED)
    with pytest.raises(BecomeError, match="not accepted: Sorry, try again") as caught:
        dialogue.answer(b"", ASKED + b"\nSorry, try again.\n" + ASKED)
    assert "secret" not in caught.value.message


def test_it_is_over_when_the_command_has_begun(dialogue: Dialogue) -> None:
    assert not dialogue.is_over(b"BECOME")
    assert dialogue.is_over(b"BECOME-SUCCESS-abc\n")


@pytest.mark.parametrize(
    ("errors", "left"),
    [(b"", b""), (ASKED + b" ", b""), (b"lecture\n" + ASKED + b" oops\n", b"lecture\noops\n"), (b"oops\n", b"oops\n")],
)
def test_the_prompt_is_not_the_commands_own(dialogue: Dialogue, errors: bytes, left: bytes) -> None:
    assert dialogue.without_prompt(errors) == left


@pytest.mark.parametrize("prompt", [True, None, ""])
def test_a_prompt_that_is_no_text_stays(monkeypatch: pytest.MonkeyPatch, dialogue: Dialogue, prompt: object) -> None:
    monkeypatch.setattr(Sudo, "prompt", prompt)
    assert dialogue.without_prompt(b"Password: oops") == b"Password: oops"

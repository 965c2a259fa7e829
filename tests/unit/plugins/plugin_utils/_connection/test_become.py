from __future__ import annotations

import pytest
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.become import Dialog
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._connection.errors import BecomeError

PROMPT = "[sudo via ansible, key=abc] password:"
ASKED = PROMPT.encode()


class Sudo:
    """A stand-in for Ansible's become plugin sudo."""

    prompt: object = PROMPT

    def check_success(self, b_output: bytes) -> bool:
        return b"BECOME-SUCCESS-abc" in b_output

    def check_password_prompt(self, b_output: bytes) -> bool:
        return ASKED in b_output


@pytest.fixture
def dialog() -> Dialog:
    return Dialog(Sudo(), b"secret", 10.0)


@pytest.mark.parametrize("stream", [0, 1])
def test_the_password_is_sent_once_after_a_prompt(dialog: Dialog, stream: int) -> None:
    assert dialog.answer(b"", b"We trust you have received the usual lecture") is None
    seen = [b"", b""]
    seen[stream] = b"lecture\n" + ASKED + b" "
    assert [dialog.answer(*seen) for _time in range(2)] == [b"secret", None]


def test_a_second_prompt_fails_with_the_reason_and_without_the_password(dialog: Dialog) -> None:
    dialog.answer(b"", ASKED)
    with pytest.raises(BecomeError, match="not accepted: Sorry, try again") as caught:
        dialog.answer(b"", ASKED + b"\nSorry, try again.\n" + ASKED)
    assert "secret" not in caught.value.message


def test_the_success_marker_ends_the_dialog(dialog: Dialog) -> None:
    assert [dialog.is_over(output) for output in (b"BECOME", b"BECOME-SUCCESS-abc\n")] == [False, True]


@pytest.mark.parametrize(
    ("prompt", "errors", "left"),
    [
        *((PROMPT, errors, errors) for errors in (b"", b"oops\n")),
        (PROMPT, ASKED + b" ", b""),
        (PROMPT, b"lecture\n" + ASKED + b" oops\n", b"lecture\noops\n"),
        *((prompt, b"Password: oops", b"Password: oops") for prompt in (True, None, "")),
    ],
)
def test_a_known_prompt_is_removed_from_the_commands_errors(
    monkeypatch: pytest.MonkeyPatch, dialog: Dialog, prompt: object, errors: bytes, left: bytes
) -> None:
    monkeypatch.setattr(Sudo, "prompt", prompt)
    assert dialog.without_prompt(errors) == left

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandError,
    CommandFailedError,
    InvalidOptionError,
    NotConnectedError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    ProtocolError,
    QgaError,
    RemoteProtocolError,
)

# Playbooks test these: a code may be added, never changed.
CODES = [
    *("command_disabled", "command_failed", "command_not_found", "deadline", "frozen", "guests_failed"),
    *("host_clock_unsynchronized", "hypervisor_unavailable", "internal_error", "invalid_option", "missing_library"),
    *("not_configured", "not_connected", "not_converged", "not_found", "not_running", "not_supported", "opted_out"),
    *("permission_denied", "protocol_error", "replaced", "timeout", "unresponsive"),
]


def descendants(family: type[QgaError]) -> Iterator[type[QgaError]]:
    for child in family.__subclasses__():
        yield child
        yield from descendants(child)


# Without classes that tests derive from them.
MODULES = {QgaError.__module__, errors.__name__}
CONCRETE = [
    kind for kind in descendants(QgaError) if kind not in (ProtocolError, CommandError) and kind.__module__ in MODULES
]


def test_each_class_has_a_documented_code_and_a_hint_of_its_own() -> None:
    # The protocol errors of both ends share one code: for a playbook they are the same problem.
    codes = [kind.code for kind in (QgaError, *CONCRETE) if kind is not LocalProtocolError]
    assert sorted(codes) == CODES
    assert LocalProtocolError.code == "protocol_error"
    assert len({kind.default_hint for kind in CONCRETE}) == len(CONCRETE)


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_an_error_has_a_message_and_a_hint(kind: type[QgaError]) -> None:
    hint = kind("The guest is gone.").hint
    # Only the code that finds an option invalid knows the right form.
    assert (hint[:1].isupper() and hint.endswith(".")) or (kind is InvalidOptionError and not hint)
    error = kind("The guest is gone.", "Look for it.")
    assert str(error) == "The guest is gone."
    assert error.as_dict() == {"code": kind.code, "message": "The guest is gone.", "hint": "Look for it."}
    assert kind("The guest is gone.", "").hint == ""


def test_an_agents_refusal_names_the_command() -> None:
    assert CommandFailedError("no", command="guest-ping").command == "guest-ping"


def test_a_detached_error_keeps_only_its_texts() -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        raise RemoteProtocolError("said", "do this") from ValueError("a long text")
    kept = errors.detached(raised.value)
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
    assert kept.as_dict() == {"code": "protocol_error", "message": "said", "hint": "do this"}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NotConnectedError("no agent runs in web1", "Start it."), "No agent runs in web1 [not_connected]. Start it."),
        (NotConnectedError("it ended with a stop.", "Do."), "It ended with a stop [not_connected]. Do."),
        (QgaError("something"), "Something [internal_error]."),
        (QgaError(""), " [internal_error]."),
    ],
)
def test_an_error_as_text_is_a_sentence_with_its_code_and_hint(error: QgaError, text: str) -> None:
    assert errors.sentence(error) == text

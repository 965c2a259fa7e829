from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils import _errors as errors
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import (
    CommandError,
    CommandFailedError,
    InvalidOptionError,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import (
    LocalProtocolError,
    ProtocolError,
    QgaError,
    RemoteProtocolError,
)

# Playbooks test these: a code may be added, never changed.
CODES = {
    "invalid_option",
    "missing_library",
    "hypervisor_unavailable",
    "permission_denied",
    "not_found",
    "not_running",
    "not_configured",
    "not_connected",
    "replaced",
    "unresponsive",
    "timeout",
    "protocol_error",
    "command_not_found",
    "command_disabled",
    "frozen",
    "command_failed",
    "not_supported",
    "not_converged",
    "host_clock_unsynchronized",
    "opted_out",
    "deadline",
    "guests_failed",
    "internal_error",
}
FAMILIES = {QgaError, ProtocolError, CommandError}


def descendants(family: type[QgaError]) -> Iterator[type[QgaError]]:
    for child in family.__subclasses__():
        yield child
        yield from descendants(child)


# What a test derives from them does not count.
MODULES = {QgaError.__module__, errors.__name__}
CONCRETE = [kind for kind in descendants(QgaError) if kind not in FAMILIES and kind.__module__ in MODULES]


def test_the_codes_are_the_documented_ones() -> None:
    assert {QgaError.code, *(kind.code for kind in CONCRETE)} == CODES


def test_each_class_has_a_code_of_its_own() -> None:
    # Both sides of the wire share one: for a playbook it is the same trouble.
    codes = [kind.code for kind in CONCRETE if kind is not LocalProtocolError]
    assert len(codes) == len(set(codes))
    assert "internal_error" not in codes
    assert LocalProtocolError.code == RemoteProtocolError.code == "protocol_error"


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_each_class_says_what_to_do_next(kind: type[QgaError]) -> None:
    hint = kind("The guest is gone.").hint
    if kind is InvalidOptionError:
        # Only the place that found the option wrong knows the right form.
        assert hint == ""
    else:
        assert hint[0].isupper()
        assert hint.endswith(".")


def test_hints_are_not_shared() -> None:
    hints = [kind.default_hint for kind in CONCRETE]
    assert len(hints) == len(set(hints))


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_what_a_module_returns(kind: type[QgaError]) -> None:
    error = kind("The guest is gone.", "Look for it.")
    assert str(error) == "The guest is gone."
    assert error.as_dict() == {"code": kind.code, "message": "The guest is gone.", "hint": "Look for it."}


def test_a_hint_can_be_left_out_on_purpose() -> None:
    assert RemoteProtocolError("The peer is mad.", "").hint == ""


def test_an_agents_refusal_names_the_command() -> None:
    assert CommandFailedError("no", command="guest-ping").command == "guest-ping"
    assert isinstance(CommandFailedError("no"), CommandError)


def test_a_detached_error_holds_nothing_but_what_it_says() -> None:
    def fail() -> None:
        try:
            raise ValueError("a long text")
        except ValueError as cause:
            raise RemoteProtocolError("said", "do this") from cause

    with pytest.raises(RemoteProtocolError) as caught:
        fail()
    kept = errors.detached(caught.value)
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
    assert kept.as_dict() == {"code": "protocol_error", "message": "said", "hint": "do this"}

"""Answers of libvirt to agent commands: functions of the request that return a reply or raise an error."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tests.fakes.faults import Pause

if TYPE_CHECKING:  # a process that imports this in place of libvirt may not have the collection
    from tests.fakes.agent import Agent

# virErrorNumber (include/libvirt/virterror.h)
INTERNAL_ERROR = 1
SYSTEM_ERROR = 38
NO_DOMAIN = 42
OPERATION_INVALID = 55
ARGUMENT_UNSUPPORTED = 74
NO_DOMAIN_METADATA = 80
AGENT_UNRESPONSIVE = 86

Answer = Callable[[dict[str, Any]], str]


class LibvirtError(Exception):
    """Like libvirt.libvirtError: a number, a text in the daemon's language, and an errno in int1."""

    def __init__(self, code: int, message: str = "text in any language", int1: int = 0) -> None:
        super().__init__(message)
        self.err: tuple[Any, ...] = (code, 0, message, 2, None, None, None, int1, 0)

    def get_error_code(self) -> int:
        return int(self.err[0])

    def get_error_message(self) -> str:
        return str(self.err[2])

    def get_int1(self) -> int:
        return int(self.err[7])


def agent_returns(value: Any) -> Answer:
    return lambda _request: json.dumps({"return": value})


def fails(code: int, message: str = "text in any language") -> Answer:
    def fail(_request: dict[str, Any]) -> str:
        raise LibvirtError(code, message)

    return fail


_MOST_BYTES = 4 * 1024 * 1024  # REMOTE_STRING_MAX, src/remote/remote_protocol.x
# One such character makes Python store every character of the string in four bytes.
_WIDE = "\U0001f600".encode()


@functools.lru_cache(maxsize=1)  # the one in use, not all of them
def _at_length(head: bytes, tail: bytes = b"") -> bytes:
    return head + b"a" * (_MOST_BYTES - len(head) - len(_WIDE) - len(tail)) + _WIDE + tail


def _long(head: bytes, tail: bytes = b"", is_error: bool = False) -> Answer:
    def answer(_request: dict[str, Any]) -> str:
        text = _at_length(head, tail)
        if not is_error:
            return str(text, "utf-8")  # libvirt-python creates a new one each time
        error = LibvirtError(INTERNAL_ERROR)
        error.err = (*error.err[:2], text, error.err[3], "%s", text, *error.err[6:])  # like virRaiseErrorFull()
        raise error

    return answer


# Very long texts of an agent, after libvirt and libvirt-python: 16 MiB each, or several times that.
# Those of errors are still bytes; :func:`as_texts` does libvirt-python's part.
AT_LENGTH: Mapping[str, Answer] = {
    "a reply": _long(b'{"return": "', b'"}'),
    "a reply that is not UTF-8": _long(b'{"return": "', b'\xff"}'),
    "not JSON": _long(b"internal error: cannot parse json ", is_error=True),
    "a refusal": _long(b"internal error: unable to execute QEMU agent command 'guest-info': ", is_error=True),
}


def as_texts(raw: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the parts of an error as new strings, as libvirt-python creates them for each caller."""
    return tuple(str(part, "utf-8") if isinstance(part, bytes) else part for part in raw)


def hangs(until: threading.Event) -> Answer:
    def hang(_request: dict[str, Any]) -> str:
        until.wait(10)
        return '{"return": {}}'

    return hang


def require_returned(request: dict[str, Any], reply: dict[str, Any]) -> None:
    """Raise libvirt's error for an agent's error (``qemuAgentCheckError``)."""
    if "error" in reply:
        text = f"unable to execute QEMU agent command '{request['execute']}': {reply['error']['desc']}"
        raise LibvirtError(INTERNAL_ERROR, f"internal error: {text}")


def answers_by(agent: Agent) -> Answer:
    """Like libvirt, pass on one command at a time, from any thread."""
    lock = threading.Lock()

    def ask(request: dict[str, Any]) -> str:
        answer = b""
        with lock:
            for piece in agent.received(json.dumps(request).encode() + b"\n"):
                if isinstance(piece, Pause):
                    time.sleep(piece.seconds)
                else:
                    answer += piece  # libvirt's clients never see an endless answer or a hangup
        require_returned(request, json.loads(answer))
        return answer.decode()

    return ask

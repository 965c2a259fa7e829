"""Requests and replies."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.errors import RemoteProtocolError
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import (
    Refused,
    Returned,
    expect_object,
    is_reply,
    read_reply,
    request,
)
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.values import encode
from hypothesis import given

from tests.support.json_strategies import PATIENT, json_values


def test_a_request_copies_its_arguments() -> None:
    arguments: dict[str, Any] = {}
    assert request("guest-ping") == request("guest-ping", arguments) == {"execute": "guest-ping"}
    arguments["id"] = 0
    message = request("guest-sync", arguments)
    arguments["id"] = 2
    assert message == {"execute": "guest-sync", "arguments": {"id": 0}}


@pytest.mark.parametrize("value", [{}, [], 0, 1.5, "text", False, None, {"error": 1}])
def test_any_return_value_is_accepted(value: Any) -> None:
    assert read_reply({"return": value}) == Returned(value)
    assert read_reply({"return": value, "id": 5, "error": None}) == Returned(value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"class": "CommandNotFound", "desc": "no"}, "CommandNotFound"),
        ({"desc": "no", "data": {}}, "GenericError"),
        ({"class": 5, "desc": "no"}, "GenericError"),
    ],
)
def test_an_error_needs_only_a_description(error: dict[str, Any], kind: str) -> None:
    assert read_reply({"error": error}) == Refused(kind, "no")
    assert read_reply({"error": error, "id": None, "return": None}) == Refused(kind, "no")


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 1, "return", [], ["return"], [{"return": 1}], {}, {"id": 1}, {"event": "RESUME"}),
        *({"error": None}, {"error": "no"}, {"error": {}}, {"error": {"class": "GenericError"}}),
        *({"error": {"desc": None}}, {"error": {"desc": ["no"]}}),
        *({"return": 1, "error": False}, {"return": {}, "error": {"class": "GenericError", "desc": "no"}}),
        *({"return": None, "error": "no"}, {"return": None, "error": {"desc": None}}),
    ],
    ids=repr,
)
def test_a_value_that_is_not_a_reply_is_refused(value: Any) -> None:
    with pytest.raises(RemoteProtocolError, match=r"^the peer sent a JSON value that is not an agent's reply$"):
        read_reply(value)


@PATIENT
@given(json_values)
def test_reading_a_reply_and_checking_it_agree(value: Any) -> None:
    error = {"class": value, "desc": value}
    nulls = ({"return": value, "error": None}, {"return": None, "error": error})
    for candidate in (value, {"return": value}, {"error": value}, {"error": error}, *nulls):
        try:
            reply = read_reply(candidate)
        except RemoteProtocolError:
            assert not is_reply(encode(candidate))
        else:
            assert isinstance(reply, (Returned, Refused))
            assert is_reply(encode(candidate))


@pytest.mark.parametrize(
    "raw",
    [
        *(b"", b"\n", b"garbage", b'{"return": 1} trailing', b'{"return": 1}{}', b'{"return": 1', b'{"return": NaN}'),
        *(b'{"return": "\xff"}', b'{"return": [1,]}', b'\xff{"return": 1}', b'{"return": ' + b"[" * 100_000 + b"}"),
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_bytes_that_are_not_json_are_not_a_reply(raw: bytes) -> None:
    assert not is_reply(raw)


def test_the_numbers_of_a_reply_may_have_any_length() -> None:
    assert is_reply(b'{"return": ' + b"9" * 1_000_000 + b"}\n")


def test_members_that_are_null_are_absent_and_other_values_than_objects_are_refused() -> None:
    assert expect_object({"count": 0, "buf-b64": None}, "guest-file-read") == {"count": 0}
    with pytest.raises(RemoteProtocolError, match=r"^the agent returned guest-info as list, not as an object$"):
        expect_object([], "guest-info")

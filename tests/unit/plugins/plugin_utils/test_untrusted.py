from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.qemu.guest_agent.plugins.plugin_utils._untrusted import inert, untrusted
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ansible_core import trusted

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20)
DATA = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)


class Text(str):
    """Like Ansible's own subclasses of str: its conversion to str returns something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "{{ another }}"


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in texts(part)]
    return [text for item in value for text in texts(item)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("{{ lookup('pipe', 'id') }}", r"\x7b{ lookup('pipe', 'id') }}"),
        ({"a": ["{% if x %}", {"b": "{# c #}"}]}, {"a": [r"\x7b% if x %}", {"b": r"\x7b# c #}"}]}),
        ({"{{ a }}": 1, "{'a": {"jinja2:": 1}}, {r"\x7b{ a }}": 1, r"\x7b'a": {r"\x6ainja2:": 1}}),
        (
            {"a": [{"__ansible_unsafe": "x"}], "__ansible": 1},
            {"a": [{r"\x5f_ansible_unsafe": "x"}], r"\x5f_ansible": 1},
        ),
        ("a {'b': 1}", "a {'b': 1}"),
    ],
)
def test_starts_of_templates_and_keys_of_ansibles_json_are_escaped(value: object, kept: object) -> None:
    assert inert(value) == kept


@given(DATA)
def test_other_text_is_unchanged_and_repeating_it_changes_nothing(value: object) -> None:
    assert not any(opening in text for text in texts(inert(value)) for opening in ("{{", "{%", "{#"))
    assert inert(inert(value)) == inert(value)
    if not any(
        text.lstrip()[:1] in ("#", "%") or text.startswith("__") or set(text) & set("{'\"j") for text in texts(value)
    ):
        assert inert(value) == value


def test_the_result_has_pythons_own_types() -> None:
    kept = inert(MappingProxyType({Text("a{{"): (Text("b{{"), Text("plain"))}))
    ((key, values),) = kept.items()
    assert [type(each) for each in (kept, values, key, *values)] == [dict, list, str, str, str]
    assert [key, *values] == [r"a\x7b\x7b", r"b\x7b\x7b", "plain"]
    json.dumps(kept)


@pytest.mark.parametrize("value", [b"bytes", {1, 2}, object(), {"a": [b"b"]}, {1: "a"}])
def test_data_that_json_does_not_have_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"JSON has no (type for|key of type int)"):
        inert(value)


# -------------------------------------------------------------------------------------------------- marked as unsafe

BAIT = "{{ 6 * 7 }}"
FACTS = {
    "hostname": BAIT,
    "network": [{"name": BAIT, "ip_addresses": [{"ip_address": BAIT}]}],
    "offset": 5,
    "none": None,
}


def templated(value: Any, **variables: Any) -> Any:
    return Templar(DataLoader(), variables=variables).template(value)


@pytest.mark.parametrize("value", [BAIT, FACTS, [FACTS], {"x": [trusted(BAIT)]}])
def test_marked_data_is_equal_and_not_a_template(value: Any) -> None:
    assert untrusted(value) == value
    assert templated(untrusted(value)) == value
    assert templated(trusted("{{ facts }}"), facts=untrusted(value)) == value


def test_marked_data_that_a_template_joins_is_not_a_template() -> None:
    made = templated(trusted("{{ facts.hostname ~ facts.network[0].name }}"), facts=untrusted(FACTS))
    assert templated(made) == made == BAIT * 2


def test_trusted_text_is_a_template() -> None:
    """Without this, the tests above would prove nothing."""
    assert str(templated(trusted(BAIT))) == "42"

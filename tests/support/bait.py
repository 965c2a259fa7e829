"""Bait: texts that have an effect if they are treated as more than text, and guests that send only such texts.

A program that executes one creates a file, the canary. The texts target Jinja, YAML, Ansible's JSON, shells,
terminals, readers and browsers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.fakes.agent import COMMAND_INFO
from tests.fakes.faults import Piece
from tests.fakes.kinds import FACTS
from tests.hostile.agent import STOCK, Asked, HostileAgent, Play, encoded

# Longer than a text may be, and longer than a message may be.
_TOO_LONG = 5_000
_FAR_TOO_LONG = 10_000_000


def _lookup(canaries: Path, name: str) -> str:
    return f"lookup('pipe', 'touch {canaries}/{name}')"


def baits(canaries: Path) -> dict[str, str]:
    """Return the texts by name. The names consist of letters and are also the names of the canaries."""
    lookup = partial(_lookup, canaries)

    def header(name: str) -> str:
        return f"<<lookup(*'pipe|touch {canaries}/{name}'.split('|'))>>"

    own_marks = "#jinja2:variable_start_string:'<<',variable_end_string:'>>'"
    return {
        "expression": "{{ " + lookup("expression") + " }}",
        "statement": "{% set x = " + lookup("statement") + " %}",
        "comment": "{# gone #}{{ " + lookup("comment") + " }}",
        "nested": "{{ '{{ ' ~ \"" + lookup("nested") + "\" ~ ' }}' }}",
        "raw": "{% endraw %}{{ " + lookup("raw") + " }}{% raw %}",
        "unbalanced": "{{ {% {# }} %} #}",
        "header": f"{own_marks}\n{header('header')}",
        "headerinoneline": f"{own_marks},{header('headerinoneline')}:1 ",
        "list": "[" + lookup("list") + ", 2]",
        "dict": "{'__ansible_unsafe': 'x', 'ansible_connection': 'ssh'}",
        "json": '{"__ansible_type": "TrustedAsTemplate", "value": "{{ ' + lookup("json").replace('"', "'") + ' }}"}',
        "yaml": f"!!python/object/apply:os.system ['touch {canaries}/yaml']",
        "yamlofansible": "!unsafe '{{ 1 }}'\n---\n- !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6162",
        "vault": "$ANSIBLE_VAULT;1.1;AES256\n6162636465666768\n",
        "shell": "; {0}; $({0}) `{0}` | {0} || \"{0}\" '{0}'\n{0}".format(f"touch {canaries}/shell"),
        "path": "../../../../../../etc/passwd",
        "screen": "\x1b[2J\x1b[1;1H\x1b[31mred\x1b[8mhidden",
        "clipboard": "\x1b]52;c;cm0gLXJmIC8=\x07\x1b]0;title\x1b\\\x1bP+q544e\x1b\\",
        "eightbit": "\x9b2J\x9d52;c;cm0gLXJmIC8=\x9c\x90$q\x9c\x85\x84",
        "lines": "web1\r\n\r\nPLAY RECAP ****\r\nlocalhost : ok=1 failed=0\x0b\x0c\u2028\u2029",
        "overwriting": "failed\rok    \b\b\b\x7f\0nul",
        "direction": "\u202egnp.exe\u202c\u2066x\u2069\u200f\u061c\u202d",
        "invisible": "a\u200bb\u200c\u200d\u2060\ufeff\u00ad\u180e\U000e0041\U000e0001",
        "surrogates": "\ud800 \udfff \udc1b[2J",
        "markup": "</script></title><script>window.pwned=1</script><img src=//evil.example onerror=window.pwned=1><!--",
        "attribute": "\" onclick='window.pwned=1' style=x:url(//evil.example/y) '\u2028javascript:window.pwned=1",
        "empty": "",
    }


def halves(canaries: Path) -> dict[str, tuple[str, str]]:
    """Return texts in two harmless halves, by the names of their canaries."""
    header = baits(canaries)["headerinoneline"].replace("headerinoneline", "halvesofheader")
    return {"halves": ("{", "{ " + _lookup(canaries, "halves") + " }}"), "halvesofheader": (header[:4], header[4:])}


class Remainder(NamedTuple):
    """A guest's text, and the texts that an honest playbook adds before and after it."""

    before: str
    text: str
    after: str = ""


def remainders(canaries: Path) -> dict[str, Remainder]:
    """Return texts that become templates if a playbook adds its own text and stores the result, by canary.

    ansible-core up to 2.18 evaluates stored results as templates.
    """

    def lookup(name: str) -> str:
        return _lookup(canaries, name).replace("'", '"')

    def spelled(name: str) -> str:
        """Return an expression whose braces come from Python literals."""
        return "\\x7b\\x7b " + lookup(name) + " }}"

    def in_two(name: str) -> str:
        """Return an expression whose braces are joined by Python literals."""
        return "'{' '{ " + lookup(name) + " }}'"

    header = "jinja2:variable_start_string:'<<',variable_end_string:'>>',<<lookup(*'pipe|touch {}/{}'.split('|'))>>:1 "
    return {
        "ofexpression": Remainder("{", "{ " + lookup("ofexpression") + " }}"),
        "ofstatement": Remainder("{", "% set x = " + lookup("ofstatement") + " %}"),
        "oftrimmedstatement": Remainder("{", "%- set x = " + lookup("oftrimmedstatement") + " -%}"),
        "ofcomment": Remainder("x{ {", "#- #}{ " + lookup("ofcomment") + " }}"),
        "ofheader": Remainder("#", header.format(canaries, "ofheader")),
        "inblanks": Remainder("{", "  { " + lookup("inblanks") + " }}"),
        "infront": Remainder("", "x {  ", "{ " + lookup("infront") + " }}"),
        "list": Remainder("", "['" + spelled("list") + "']"),
        "listintwo": Remainder("", "[" + in_two("listintwo") + "]"),
        "listofstatements": Remainder("", "[1, '\\x7b% set x = " + lookup("listofstatements") + " %}']"),
        "itemsintwo": Remainder("[", "1, " + in_two("itemsintwo"), "]"),
        "itemafter": Remainder("[0, ", "'" + spelled("itemafter") + "'", "]"),
        "members": Remainder("{", "'a': " + in_two("members"), "}"),
        "tuple": Remainder("[", "(None, '" + spelled("tuple") + "')", "]"),
    }


def filled(value: Any, text: str) -> Any:
    """Return the value with every string replaced by the text."""
    if isinstance(value, str):
        return text
    if isinstance(value, Mapping):
        return {name: filled(item, text) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(item, text) for item in value]
    return value


_HONEST = ("guest-sync", "guest-sync-delimited", "guest-ping", "guest-info", "guest-get-time")
_CLOCK_COMMANDS = ("guest-get-time", "guest-get-clock", "guest-set-time", "guest-update-time")


def answering(replies: Mapping[str, Any]) -> Play:
    """Play an honest agent with these replies to these commands."""

    def play(asked: Asked) -> Iterable[Piece]:
        yield encoded(replies[asked.command]) if asked.command in replies else asked.answer()

    return play


def returning(returns: Mapping[str, Any]) -> Play:
    return answering({command: {"return": value} for command, value in returns.items()})


def reporting(text: str) -> Play:
    """Play an honest agent that returns the text wherever the schema has a string."""
    command = {"enabled": True, "success-response": True}
    commands = [{"name": name, **command} for name in (*FACTS, *_CLOCK_COMMANDS, "guest-get-command-info", text)]
    facts = returning(
        {
            **{name: filled(facts, text) for name, facts in FACTS.items()},
            "guest-info": {"version": text, "supported_commands": commands},
            "guest-get-command-info": filled(COMMAND_INFO, text),
        }
    )

    def play(asked: Asked) -> Iterable[Piece]:
        if asked.command == "guest-update-time":
            asked.answer()
            yield encoded({"return": {"before": 1, "after": 2, "rtc-error": text}})
        elif asked.command == "guest-get-clock":
            yield encoded({"return": {**json.loads(asked.answer())["return"], "source": text}})
        else:
            yield from facts(asked)

    return play


def refusing(text: str) -> Play:
    """Play an agent that sets its clock, but returns the text as an error to all requests that this does not need."""

    def play(asked: Asked) -> Iterable[Piece]:
        is_honest = asked.command in _HONEST
        answer = asked.answer() if is_honest or asked.command == "guest-set-time" else b""
        yield answer if is_honest else encoded({"error": {"class": text, "desc": text}})

    return play


def failing(text: str) -> Play:
    """Play an agent that does nothing and returns the text as an error to every request."""

    def play(asked: Asked) -> Iterable[Piece]:
        is_sync = asked.command.startswith("guest-sync")
        yield asked.answer() if is_sync else encoded({"error": {"class": "GenericError", "desc": text}})

    return play


def in_two(first: str, second: str) -> Play:
    return returning({"guest-get-osinfo": {"id": first, "name": second}})


# Member names of Ansible's own JSON, and names of variables that control Ansible.
KEYS = (
    *("__ansible_type", "__ansible_unsafe", "__ansible_vault", "_ansible_no_log", "_ansible_verbose_override"),
    *("ansible_facts", "ansible_host", "ansible_connection", "ansible-connection", "Ansible-Python-Interpreter"),
)


def keyed(key: str, text: str) -> Play:
    """Play an agent that adds this member to its facts, and returns an object in place of its host name."""
    odd = {key: text}
    return returning(
        {
            "guest-get-osinfo": {**odd, "id": "debian"},
            "guest-get-fsinfo": [{**odd, "name": "vda1", "mountpoint": "/", "disk": [{**odd, "bus": 0}]}],
            "guest-get-host-name": {"host-name": odd},
            "guest-fsfreeze-status": odd,
        }
    )


def _at_length() -> Play:
    """Play an agent whose host name is too long, and whose other texts are far too long."""
    # A valid template: an invalid one would prevent the evaluation of those after it.
    text = "{{ 1 }} ".ljust(_FAR_TOO_LONG, "A")
    return answering(
        {
            "guest-get-host-name": {"return": {"host-name": text[:_TOO_LONG]}},
            "guest-get-timezone": {"return": {"offset": 0, "zone": text}},
            "guest-get-osinfo": {"error": {"class": "GenericError", "desc": text}},
        }
    )


def guests_with(canaries: Path) -> dict[str, HostileAgent]:
    texts = baits(canaries)
    return {
        **{f"telling-{name}": HostileAgent(reporting(text)) for name, text in texts.items()},
        **{f"refusing-{name}": HostileAgent(refusing(text), STOCK) for name, text in texts.items()},
        **{f"failing-{name}": HostileAgent(failing(text), STOCK) for name, text in texts.items()},
        **{f"twice-{name}": HostileAgent(in_two(*both), STOCK) for name, both in halves(canaries).items()},
        **{f"keyed-{key}": HostileAgent(keyed(key, texts["expression"]), STOCK) for key in KEYS},
        "telling-at-length": HostileAgent(_at_length(), STOCK),
    }

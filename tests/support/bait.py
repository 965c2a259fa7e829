"""Texts that do something to who takes them for more than text, and guests that say nothing else.

Whoever carries one out leaves a file: a canary. The texts are for Jinja, YAML, Ansible's JSON, shells, terminals,
readers and browsers.
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

# More than a text may have, and more than a message may.
_TOO_LONG = 5_000
_FAR_TOO_LONG = 10_000_000


def _lookup(canaries: Path, name: str) -> str:
    return f"lookup('pipe', 'touch {canaries}/{name}')"


def baits(canaries: Path) -> dict[str, str]:
    """The texts by a name of letters, after which their canaries are called."""
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
    """Texts in two halves, each of which is harmless, by the names of their canaries."""
    header = baits(canaries)["headerinoneline"].replace("headerinoneline", "halvesofheader")
    return {"halves": ("{", "{ " + _lookup(canaries, "halves") + " }}"), "halvesofheader": (header[:4], header[4:])}


class Remainder(NamedTuple):
    """A guest's text, and what an honest playbook joins to it on either side."""

    before: str
    text: str
    after: str = ""


def remainders(canaries: Path) -> dict[str, Remainder]:
    """Texts that become templates when a playbook joins its own to them and keeps the result, by their canaries' names.

    ansible-core up to 2.18 reads what a task has kept as a template.
    """

    def lookup(name: str) -> str:
        return _lookup(canaries, name).replace("'", '"')

    def spelled(name: str) -> str:
        """An expression whose braces Python's literals have."""
        return "\\x7b\\x7b " + lookup(name) + " }}"

    def in_two(name: str) -> str:
        """One whose braces come together in Python's literals."""
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


def said(value: Any, text: str) -> Any:
    """The same value, with the text in place of every other."""
    if isinstance(value, str):
        return text
    if isinstance(value, Mapping):
        return {name: said(item, text) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [said(item, text) for item in value]
    return value


_HONEST = ("guest-sync", "guest-sync-delimited", "guest-ping", "guest-info", "guest-get-time")
_CLOCK_COMMANDS = ("guest-get-time", "guest-get-clock", "guest-set-time", "guest-update-time")


def answering(replies: Mapping[str, Any]) -> Play:
    """It does what it is told, but for its replies to these commands."""

    def play(asked: Asked) -> Iterable[Piece]:
        yield encoded(replies[asked.command]) if asked.command in replies else asked.answer()

    return play


def returning(returns: Mapping[str, Any]) -> Play:
    return answering({command: {"return": value} for command, value in returns.items()})


def telling(text: str) -> Play:
    """It does what it is told, and tells the text wherever the schema has one."""
    command = {"enabled": True, "success-response": True}
    commands = [{"name": name, **command} for name in (*FACTS, *_CLOCK_COMMANDS, "guest-get-command-info", text)]
    facts = returning(
        {
            **{name: said(facts, text) for name, facts in FACTS.items()},
            "guest-info": {"version": text, "supported_commands": commands},
            "guest-get-command-info": said(COMMAND_INFO, text),
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
    """It sets its clock, and says the text for an error to all but the questions that this needs."""

    def play(asked: Asked) -> Iterable[Piece]:
        is_honest = asked.command in _HONEST
        answer = asked.answer() if is_honest or asked.command == "guest-set-time" else b""
        yield answer if is_honest else encoded({"error": {"class": text, "desc": text}})

    return play


def failing(text: str) -> Play:
    """It does nothing, and says the text for an error to whatever it is asked."""

    def play(asked: Asked) -> Iterable[Piece]:
        is_sync = asked.command.startswith("guest-sync")
        yield asked.answer() if is_sync else encoded({"error": {"class": "GenericError", "desc": text}})

    return play


def in_two(first: str, second: str) -> Play:
    return returning({"guest-get-osinfo": {"id": first, "name": second}})


# Names of members that Ansible's own JSON has, and names of variables that steer it.
KEYS = (
    *("__ansible_type", "__ansible_unsafe", "__ansible_vault", "_ansible_no_log", "_ansible_verbose_override"),
    *("ansible_facts", "ansible_host", "ansible_connection", "ansible-connection", "Ansible-Python-Interpreter"),
)


def keyed(key: str, text: str) -> Play:
    """It tells of its system and its file systems what no agent does, and an object in place of its name."""
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
    """It tells a text that is too long for its name, and others that are far too long."""
    # A template without fault: one that cannot be read would keep those after it from being carried out.
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
        **{f"telling-{name}": HostileAgent(telling(text)) for name, text in texts.items()},
        **{f"refusing-{name}": HostileAgent(refusing(text), STOCK) for name, text in texts.items()},
        **{f"failing-{name}": HostileAgent(failing(text), STOCK) for name, text in texts.items()},
        **{f"twice-{name}": HostileAgent(in_two(*both), STOCK) for name, both in halves(canaries).items()},
        **{f"keyed-{key}": HostileAgent(keyed(key, texts["expression"]), STOCK) for key in KEYS},
        "telling-at-length": HostileAgent(_at_length(), STOCK),
    }

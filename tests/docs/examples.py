"""The examples of the guides: every code block, with its kind and its test.

The kind of a YAML example follows from its shape. The test of any other example follows from its language, its guide,
or the table below. A block without either is an error, so that no example remains untested.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.support.collection import ROOT

GUIDES = ROOT / "docs" / "docsite" / "rst"

_BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>[\w+-]+)\n"
    r"(?P<options>(?:(?P=indent)   :[^\n]*\n)*)\n"
    r"(?P<body>(?:(?:(?P=indent)   [^\n]*)?\n)+)",
    re.MULTILINE,
)


_NAME_LENGTH = 70
IMPORT = "ansible.builtin.import_playbook"


class Example(NamedTuple):
    """One code block. ``caption`` is empty if it has none."""

    guide: str
    language: str
    caption: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def name(self) -> str:
        """The name in the table, long enough to be unique."""
        return f"{self.guide}: {(self.caption or self.first_line)[:_NAME_LENGTH].strip()}"


class Kind(Enum):
    """The kind of a YAML example."""

    PLAYS = "a playbook"
    TASKS = "tasks"
    INVENTORY = "an inventory"
    SOURCE = "the source of an inventory plugin, or a part of one"
    EXECUTION_ENVIRONMENT = "the definition of an execution environment, for ansible-builder"
    REQUIREMENTS = "collections to install, for ansible-galaxy"


def read(guide: Path) -> Iterator[Example]:
    for block in _BLOCK.finditer(guide.read_text(encoding="utf-8")):
        caption = re.search(r":caption: (.*)", block["options"])
        text = textwrap.dedent(block["body"]).strip("\n") + "\n"
        yield Example(guide.stem, block["language"], caption[1] if caption else "", text)


def all_examples() -> list[Example]:
    return [example for guide in sorted(GUIDES.glob("*.rst")) for example in read(guide)]


def of_language(*languages: str) -> list[Example]:
    return [example for example in all_examples() if example.language in languages]


def kind_of(value: Any) -> Kind | None:
    """Return None for an unknown shape."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return Kind.PLAYS if all({"hosts", IMPORT} & entry.keys() for entry in value) else Kind.TASKS
    if isinstance(value, dict) and all(isinstance(entry, dict) and "hosts" in entry for entry in value.values()):
        return Kind.INVENTORY
    if not isinstance(value, dict):
        return None
    if "dependencies" in value:
        return Kind.EXECUTION_ENVIRONMENT
    return Kind.REQUIREMENTS if "collections" in value else Kind.SOURCE


def yaml_of(example: Example) -> Any:
    return yaml.safe_load(example.text)


def tasks_of(example: Example) -> list[Mapping[str, Any]]:
    """Return all tasks of a playbook or of a list of tasks, with those inside blocks."""
    value = yaml_of(example)
    kind = kind_of(value)
    if kind is Kind.TASKS:
        return list(_flat(value))
    if kind is Kind.PLAYS:
        return [task for play in value for task in _flat(play.get("tasks", []))]
    return []


def _flat(tasks: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for task in tasks:
        if "block" in task:
            for part in ("block", "rescue", "always"):
                yield from _flat(task.get(part, ()))
        else:
            yield task


class Check(Enum):
    """The test of an example that is not YAML, and its file."""

    COMMANDS = "its commands: tests/integration/docs/test_commands.py"
    PROTOCOL = "every byte of it: tests/integration/docs/test_protocol.py"
    SCHEMA = "against the catalog of commands: tests/unit/docs/test_texts.py"
    SERVICE_LOG = "its commands as COMMANDS, its lines by tests/unit/docs/test_texts.py"
    TEXT = "its statements about the code: tests/unit/docs/test_texts.py"
    AGENT_CONFIGURATION = "by the agent that reads it: tests/integration/docs/test_commands.py"
    OUTPUT = "the names of its tasks: tests/unit/docs/test_texts.py"


# By guide and caption, or first line: the examples whose test does not follow from language and guide.
TABLE: Mapping[str, Check] = {
    "after_restore: The end of its output": Check.OUTPUT,
    "extended_agent: host ── channel ── extended agent ── private socket ── stock agent": Check.TEXT,
    "extended_agent: A guest on the same busy machine, again twenty seconds late": Check.OUTPUT,
    "fleets: Result of the second command, for a hypervisor with one guest": Check.OUTPUT,
    "inventory: The entry guest of the result, of a Debian 12 guest": Check.OUTPUT,
    "measuring: g - t4  <=  offset  <=  g + resolution - t1": Check.TEXT,
    "on_resume: $ journalctl --unit qga-resync-on-resume --output cat": Check.SERVICE_LOG,
    "quickstart: Output of the last command, for an emulated guest on a busy machine": Check.OUTPUT,
    "scale: seconds = max(H / F × t, H × c / processors of the controller)": Check.TEXT,  # noqa: RUF001  # as it stands on the page
    'troubleshooting: <channel type="unix">': Check.TEXT,
}
_BY_LANGUAGE = {"console": Check.COMMANDS, "ini": Check.AGENT_CONFIGURATION}


def check_of(example: Example) -> Check | None:
    """Return None for YAML, and for an example without a test."""
    if example.guide == "protocol" and example.language == "text":
        return Check.SCHEMA if example.caption.startswith("Schema of ") else Check.PROTOCOL
    return TABLE.get(example.name) or _BY_LANGUAGE.get(example.language)


def to_check(*checks: Check) -> list[Example]:
    return [example for example in all_examples() if check_of(example) in checks]


def commands_of(example: Example) -> list[str]:
    """Return the commands of a console example: the lines that begin with "$ ", or all lines if none does."""
    lines = example.text.replace("\\\n", "").splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.partition("   #")[0].strip() for line in (prompted or lines)]

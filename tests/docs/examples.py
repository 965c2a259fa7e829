"""The examples of the guides: every code block, with what it is.

YAML says by its shape what it is. Of everything else the table below says how it is tested; a block that is in neither
is an error, so no example is left out by silence.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
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
        """What the table calls it by; long enough to tell it from all others."""
        return f"{self.guide}: {(self.caption or self.first_line)[:_NAME_LENGTH].strip()}"


class Kind(Enum):
    """What a YAML example is."""

    PLAYS = "a playbook"
    TASKS = "tasks"
    INVENTORY = "an inventory"
    SOURCE = "the source of an inventory plugin, or a part of one"


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
    """None: it has no shape that is known here."""
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        return Kind.PLAYS if all("hosts" in entry for entry in value) else Kind.TASKS
    if isinstance(value, dict) and all(isinstance(entry, dict) and "hosts" in entry for entry in value.values()):
        return Kind.INVENTORY
    return Kind.SOURCE if isinstance(value, dict) else None


def yaml_of(example: Example) -> Any:
    return yaml.safe_load(example.text)


def tasks_of(example: Example) -> list[Mapping[str, Any]]:
    """All tasks of a playbook or of a list of tasks."""
    value = yaml_of(example)
    kind = kind_of(value)
    if kind is Kind.TASKS:
        return list(value)
    if kind is Kind.PLAYS:
        return [task for play in value for task in play.get("tasks", [])]
    return []


class Check(Enum):
    """How an example that is no YAML is tested, and where."""

    COMMANDS = "its commands: tests/integration/docs/test_commands.py"
    PROTOCOL = "every byte of it: tests/integration/docs/test_protocol.py"
    SCHEMA = "against the catalogue of commands: tests/unit/docs/test_protocol.py"
    SERVICE_LOG = "its commands as COMMANDS, its lines by tests/unit/docs/test_texts.py"
    TEXT = "what it says of the code: tests/unit/docs/test_texts.py"
    AGENT_CONFIGURATION = "by the agent that reads it: tests/integration/docs/test_commands.py"
    OUTPUT = "where it comes from: tests/unit/docs/test_texts.py"


# Guide and caption, or first line, of every example that is no YAML.
TABLE: Mapping[str, Check] = {
    "after_restore: $ ansible-playbook qemu.guest_agent.restore_guest -i hypervisors.yml \\": Check.COMMANDS,
    "after_restore: The end of what it says": Check.OUTPUT,
    "connection: $ ansible guests -i inventory.yml -m ansible.builtin.ping": Check.COMMANDS,
    "extended_agent: host ── channel ── extended agent ── private socket ── stock agent": Check.TEXT,
    'extended_agent: $ virsh qemu-agent-command web1 \'{"execute": "guest-get-clock"}\'': Check.COMMANDS,
    "extended_agent: Such a guest on the same busy machine, twenty seconds late again": Check.OUTPUT,
    "extended_agent: # /etc/qemu/qemu-ga.conf; on RedHat, BLOCK_RPCS or FILTER_RPC_ARGS in": Check.AGENT_CONFIGURATION,
    "fleets: $ virsh metadata web1 --config --live urn:qemu.guest_agent:resync --ke": Check.COMMANDS,
    "fleets: $ virsh metadata web1 --config --live urn:qemu.guest_agent:resync --re": Check.COMMANDS,
    "fleets: $ ansible-playbook qemu.guest_agent.resync_fleet -i hypervisors.yml --": Check.COMMANDS,
    "fleets: What it says of a hypervisor with one guest": Check.OUTPUT,
    "inventory: The entry guest of the result, of a Debian 12 guest": Check.OUTPUT,
    "inventory: $ ansible-playbook qemu.guest_agent.gather_facts -i hypervisors.yml --": Check.COMMANDS,
    "inventory: $ ansible-inventory -i lab.libvirt_guests.yml --graph": Check.COMMANDS,
    "measuring: g - t4  <=  offset  <=  g + resolution - t1": Check.TEXT,
    "on_resume: $ journalctl --unit qga-resync-on-resume --output cat": Check.SERVICE_LOG,
    "on_resume: $ ansible-rulebook --rulebook qemu.guest_agent.resync_on_resume --inve": Check.COMMANDS,
    "protocol: A question, and the same with an id": Check.PROTOCOL,
    "protocol: A shutdown that is disabled, and a ping that was sent with it": Check.PROTOCOL,
    "protocol: A client finds its place": Check.PROTOCOL,
    "protocol: An id beyond the range of a double": Check.PROTOCOL,
    "protocol: What is no request": Check.PROTOCOL,
    "protocol: No such command": Check.PROTOCOL,
    "protocol: A command that is disabled (here: guest-get-clock is in the agent's bl": Check.PROTOCOL,
    "protocol: Schema of guest-update-time, in QAPI's language": Check.SCHEMA,
    "protocol: An absolute time, with nanoseconds as a number and as text": Check.PROTOCOL,
    "protocol: A difference": Check.PROTOCOL,
    "protocol: A slew": Check.PROTOCOL,
    "protocol: The hardware clock cannot be written (here: there is none)": Check.PROTOCOL,
    "protocol: What is refused": Check.PROTOCOL,
    "protocol: The kernel refuses (here: the agent may not set the clock)": Check.PROTOCOL,
    "protocol: No slew against a time service (here: one disciplines the clock)": Check.PROTOCOL,
    "protocol: The form of the wiki page": Check.PROTOCOL,
    "protocol: Schema of guest-get-clock, in QAPI's language": Check.SCHEMA,
    "protocol: Reading the clock": Check.PROTOCOL,
    "protocol: Schema of guest-get-command-info, in QAPI's language": Check.SCHEMA,
    "protocol: One of its own commands, one of QEMU's, and none": Check.PROTOCOL,
    "protocol: Schema of guest-info, in QAPI's language": Check.SCHEMA,
    'protocol: The beginning, two commands from the middle, and the end; "..." stands': Check.PROTOCOL,
    "quickstart: $ git clone https://github.com/qemu-guest-agent/qemu.guest_agent": Check.COMMANDS,
    "quickstart: $ virsh suspend web1; sleep 20; virsh resume web1": Check.COMMANDS,
    "quickstart: What the last command says, on an emulated guest of a busy machine": Check.OUTPUT,
    "quickstart: The second time": Check.OUTPUT,
    "scale: seconds = max(H / F × t, H × c / processors of the controller)": Check.TEXT,  # noqa: RUF001  # as it stands on the page
    "troubleshooting: $ virsh list --all": Check.COMMANDS,
    'troubleshooting: <channel type="unix">': Check.TEXT,
    "without_libvirt: $ qemu-system-x86_64 -name web1 -m 512 \\": Check.COMMANDS,
    "without_libvirt: $ ansible-playbook qemu.guest_agent.resync_fleet -i nodes.yml -e '{\"qg": Check.COMMANDS,
}


def to_check(*checks: Check) -> list[Example]:
    return [example for example in all_examples() if TABLE.get(example.name) in checks]


def commands_of(example: Example) -> list[str]:
    """The command lines of a console example: behind "$ ", or all of them if there is no such line."""
    lines = example.text.replace("\\\n", "").splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    return [line.partition("   #")[0].strip() for line in (prompted or lines)]

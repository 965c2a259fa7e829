"""The guides' statements about the code are true."""

from __future__ import annotations

import ast
import re
from typing import Any

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.intervals import Reading
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.commands import CATALOG

from tests.docs.examples import GUIDES, Check, Example, all_examples, commands_of, to_check
from tests.support.collection import ROOT
from tests.support.resync_service import module, parse


def example_with(first_line: str) -> str:
    (text,) = (example.text for example in all_examples() if example.first_line.startswith(first_line))
    return text


def test_the_formula_of_an_interval_is_that_of_the_code() -> None:
    low, high = re.fullmatch(r"(.*) <= *offset *<= (.*)", example_with("g - t4").strip()).groups()  # type: ignore[union-attr]
    names = {"g": 1_000_500, "t1": 100, "t4": 900, "resolution": 1000}
    reading = Reading(names["t1"], names["t4"], names["g"], names["g"], names["resolution"])
    assert (eval(low, names), eval(high, names)) == reading.interval  # noqa: S307  # a page of this repository


def test_the_formula_on_scale_gives_the_figures_of_its_example() -> None:
    page = (GUIDES / "scale.rst").read_text(encoding="utf-8")
    formula = (
        example_with("seconds = max(")
        .partition(" = ")[2]
        .replace("\N{MULTIPLICATION SIGN}", "*")
        .replace("processors of the controller", "P")
    )
    example = re.search(r"1,000 hypervisors of 100 guests.*?max\(42, 250\)", page, re.DOTALL)
    assert example is not None
    assert round(eval(formula, {"H": 1000, "F": 50, "t": 2.1, "c": 1, "P": 4, "max": max})) == 250  # noqa: S307


def test_the_drawing_has_existing_commands() -> None:
    drawing = example_with("host ── channel")
    for name in re.findall(r"guest-[a-z-]+\*?", drawing):
        assert any(known == name or (name.endswith("*") and known.startswith(name[:-1])) for known in CATALOG), name


def test_the_channel_of_the_guide_is_recognized() -> None:
    from ansible_collections.qemu.guest_agent.plugins.module_utils._hypervisor.domains import channel_state

    channel = example_with('<channel type="unix">')
    assert channel_state(f"<domain><devices>{channel}</devices></domain>").configured


def test_the_log_lines_of_the_guide_are_those_of_the_service() -> None:
    (example,) = to_check(Check.SERVICE_LOG)
    commands = {f"$ {command}" for command in commands_of(example)}
    watching, resync = (line for line in example.text.splitlines() if line not in commands)
    log, result = module("log"), module("result")
    causes, news = (module(name, "guest_agent") for name in ("_watch.causes", "_watch.notices"))
    assert causes is not None
    assert watching == log.line("watching", parse(watching).fields.items())
    fields = parse(resync).fields
    since_ns = 5_000_000_000

    class Report:
        status, changed, error, warnings = "corrected", True, None, ()
        within_tolerance, slewing_ns = True, 0
        stepped_at_ns = since_ns + int(fields["since_resume_ns"])

        def as_dict(self) -> dict[str, object]:
            return {
                name: value if name == "method" else int(value)
                for name, value in fields.items()
                if name == "method" or name == "attempts" or name.endswith("_ns")
            }

    guest = news.WatchedGuest(fields["uri"], fields["uuid"], fields["guest"])
    made = result.result_of(news.Stale(guest, fields["cause"], since_ns), Report(), None)
    assert log.line("resync", made.fields()) == resync


def test_every_task_in_pasted_output_exists() -> None:
    known = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "playbooks").rglob("*.yml"))
    known += "".join(example.text for example in all_examples() if example.language == "yaml")
    for example in to_check(Check.OUTPUT):
        for task in re.findall(r"TASK \[(.*?)\]", example.text):
            assert f"name: {task}" in known, f"{example.name}: {task}"


# ------------------------------------------------------------------------------ the schemas of the page on the protocol

SCHEMAS = to_check(Check.SCHEMA)
ALTERNATES = {"GuestNanoseconds": "int | str"}


def definitions(example: Example) -> list[dict[str, Any]]:
    """QAPI's language is that of Python's literals, except that definitions follow each other."""
    return [ast.literal_eval(part) for part in re.split(r"\n\n", example.text)]


def test_there_is_one_for_each_of_the_four_commands() -> None:
    assert {definitions(example)[-1]["command"] for example in SCHEMAS} == {
        "guest-update-time",
        "guest-get-clock",
        "guest-get-command-info",
        "guest-info",
    }


@pytest.mark.parametrize("example", SCHEMAS, ids=lambda example: example.caption)
def test_arguments_and_return_values_match_the_catalog(example: Example) -> None:
    command = definitions(example)[-1]
    known = CATALOG[command["command"]]
    arguments = {
        f"*{argument.name}" if argument.optional else argument.name: argument.type for argument in known.arguments
    }
    assert {name: ALTERNATES.get(kind, kind) for name, kind in command.get("data", {}).items()} == arguments
    assert command["returns"] == known.returns


@pytest.mark.parametrize("example", SCHEMAS, ids=lambda example: example.caption)
def test_every_type_that_is_used_is_defined(example: Example) -> None:
    defined = {name for each in definitions(example) for kind in ("struct", "alternate") if (name := each.get(kind))}
    used = set(re.findall(r"'(Guest\w+)'", example.text))
    assert used <= defined

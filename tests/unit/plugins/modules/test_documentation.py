"""RETURN documents exactly what the modules return: the keys, the types and the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.module_utils._clock.methods import METHOD_CHOICES
from ansible_collections.qemu.guest_agent.plugins.module_utils._errors import NotRunningError
from ansible_collections.qemu.guest_agent.plugins.module_utils._facts.subsets import SUBSETS
from ansible_collections.qemu.guest_agent.plugins.module_utils._fleet import finding
from ansible_collections.qemu.guest_agent.plugins.module_utils._protocol.messages import Returned
from ansible_collections.qemu.guest_agent.plugins.modules import qga_info, qga_update_time

from tests.fakes.agent import COMMAND_INFO
from tests.fakes.clock import Clock
from tests.fakes.guest import EXTENDED_COMMANDS, SECOND, SimulatedGuest, TimeLine
from tests.fakes.kinds import FACTS
from tests.support.module_fleet import SimulatedFleet, run_module

MODULES: Mapping[str, ModuleType] = {"qga_info": qga_info, "qga_update_time": qga_update_time}
RETURN: Mapping[str, dict[str, Any]] = {name: yaml.safe_load(module.RETURN) for name, module in MODULES.items()}
# The result of any module may have these.
OF_ANSIBLE = {"changed", "failed", "warnings", "exception", "invocation", "diff"}
TYPES: Mapping[str, Any] = {"float": (int, float), "int": int, "str": str, "bool": bool, "list": list, "dict": dict}

Documented = Mapping[str, Any]


def sample_of(documented: Documented) -> Any:
    """Return its sample, or one composed of its members' samples if it has none of its own."""
    if "sample" in documented:
        return documented["sample"]
    sample = {name: sample_of(each) for name, each in documented["contains"].items()}
    return [sample] if documented["type"] == "list" else sample


def differences(documented: Documented, value: Any, where: str) -> Iterator[str]:
    """Yield each difference between a value and its documentation."""
    if value is None:
        if "V(null)" not in str(documented["description"]):
            yield f"{where} is null"
        return
    type_name = documented["type"]
    if not isinstance(value, TYPES[type_name]) or (type_name in ("int", "float") and isinstance(value, bool)):
        yield f"{where} is {value!r}, which is not of type {type_name}"
        return
    items = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not all(isinstance(item, TYPES[documented["elements"]]) for item in items):
        yield f"{where} has elements that are not of type {documented['elements']}"
    elif "contains" in documented:
        for item in items:
            yield from differences_of_members(documented["contains"], item, where)


def differences_of_members(contains: Mapping[str, Documented], value: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, member in value.items():
        if name in contains:
            yield from differences(contains[name], member, f"{where}.{name}")
        else:
            yield f"{where}.{name} is not documented"


def leaves(contains: Mapping[str, Documented], where: str = "") -> Iterator[tuple[str, Documented]]:
    """Yield everything that is documented and has no documented members."""
    for name, documented in contains.items():
        if "contains" in documented:
            yield from leaves(documented["contains"], f"{where}{name}.")
        else:
            yield f"{where}{name}", documented


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> TimeLine:
    line = TimeLine()
    line.install(monkeypatch)
    return line


Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(line: TimeLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module on web1, which is running, and on web2, which is not, and return its result."""

    def run(name: str, guest: SimulatedGuest, *domains: str, **options: Any) -> dict[str, Any]:
        fleet = SimulatedFleet(line)
        fleet.guests = {"web1": guest, "web2": guest}
        fleet.problems["web2"] = NotRunningError("web2 is shut off")
        fleet.vm_names["web1"] = "web1"
        monkeypatch.setitem(finding.FINDERS, "domains", fleet.find)  # type: ignore[arg-type]
        ended = run_module(capsys, MODULES[name], {"domains": domains or ["*"], **options})
        return {key: value for key, value in ended.result.items() if key not in OF_ANSIBLE}

    return run


def well_informed(line: TimeLine) -> SimulatedGuest:
    """Return a guest with the extended agent that has a reply for every fact."""
    replies = {**FACTS, "guest-get-command-info": COMMAND_INFO}
    guest = SimulatedGuest(line, Clock(host=line), (*EXTENDED_COMMANDS, *replies))
    for command, reply in replies.items():
        guest.handlers[command] = lambda _arguments, reply=reply: Returned(reply)  # type: ignore[misc]
    return guest


def stock(line: TimeLine, ahead_ns: int = 0) -> SimulatedGuest:
    return SimulatedGuest(line, Clock(ahead_ns, host=line))


def stuck(line: TimeLine) -> SimulatedGuest:
    """Return a guest whose clock cannot be set."""
    guest = stock(line, -20 * SECOND)
    guest.handlers["guest-set-time"] = lambda _arguments: Returned({})
    return guest


def results_of_info(line: TimeLine, run: Run) -> list[dict[str, Any]]:
    return [
        run("qga_info", well_informed(line)),
        run("qga_info", well_informed(line), command="guest-set-time"),
        run("qga_info", stock(line), command="guest-set-time"),
        run("qga_info", stock(line), "web1", "web2"),
    ]


def results_of_update_time(line: TimeLine, run: Run) -> list[dict[str, Any]]:
    slewable = SimulatedGuest(line, Clock(SECOND // 5, host=line), EXTENDED_COMMANDS)
    return [
        run("qga_update_time", stock(line)),
        run("qga_update_time", stock(line, -20 * SECOND)),
        run("qga_update_time", stock(line, 20 * SECOND), backward="leave"),
        run("qga_update_time", stuck(line)),
        run("qga_update_time", slewable, backward="slew"),
    ]


RESULTS = {"qga_info": results_of_info, "qga_update_time": results_of_update_time}


@pytest.mark.parametrize("name", MODULES)
class TestReturn:
    def test_it_has_every_key_that_is_returned_and_no_other(self, name: str, line: TimeLine, run: Run) -> None:
        results = RESULTS[name](line, run)
        found = [found for result in results for found in differences_of_members(RETURN[name], result, name)]
        assert found == []
        assert {key for result in results for key in result} == set(RETURN[name]) - {"guest"}
        assert RETURN[name]["guest"]["contains"] == RETURN[name]["guests"]["contains"]
        for key in ("guests", "summary"):
            lists = [result[key] if isinstance(result[key], list) else [result[key]] for result in results]
            assert {member for entries in lists for entry in entries for member in entry} == set(
                RETURN[name][key]["contains"]
            )

    def test_every_value_has_a_sample_of_its_type(self, name: str) -> None:
        for where, documented in leaves(RETURN[name]):
            assert "sample" in documented, where
            assert list(differences(documented, documented["sample"], where)) == []

    def test_samples_of_errors_are_real_errors(self, name: str) -> None:
        contains = RETURN[name]["guests"]["contains"]
        assert sample_of(contains["error"]) == sample_of(contains["reason"])
        assert sample_of(contains["error"])["code"] == NotRunningError.code


def test_samples_of_details_and_missing_facts_are_what_the_module_returns(line: TimeLine, run: Run) -> None:
    contains = RETURN["qga_info"]["guests"]["contains"]
    details = run("qga_info", stock(line), command="guest-set-time")["guests"][0]["command"]
    assert details == sample_of(contains["command"])
    missing = run("qga_info", stock(line), gather_subset=["load"])["guests"][0]["errors"]
    assert missing == contains["errors"]["sample"]


def test_every_subset_and_every_method_is_documented() -> None:
    documented = RETURN["qga_info"]["guests"]["contains"]
    option = yaml.safe_load(qga_info.DOCUMENTATION)["options"]["gather_subset"]["description"]
    for subset in SUBSETS:
        assert documented[subset.name]["returned"] == f"subset V({subset.name})"
        assert f"V({subset.name})" in " ".join(option)
    method = yaml.safe_load(qga_update_time.DOCUMENTATION)["options"]["method"]
    assert tuple(method["choices"]) == METHOD_CHOICES
    assert [each for each in METHOD_CHOICES if f"V({each})" not in " ".join(method["description"])] == []
    assert RETURN["qga_update_time"]["guests"]["contains"]["method"]["sample"] in METHOD_CHOICES

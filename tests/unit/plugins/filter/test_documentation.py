from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.qemu.guest_agent.plugins.filter import reports

from tests.support.collection import ROOT
from tests.support.fleet_results import corrected, failed, host, host_clock, skipped

FILTERS: dict[str, Callable[..., Any]] = reports.FilterModule().filters()
DOCUMENTED: dict[str, dict[str, Any]] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ROOT / "plugins/filter").glob("*.yml")
}

# The input of the filter and its arguments, in the template of an example.
_EXPRESSION = re.compile(r"\b\w+ \| qemu\.guest_agent\.\w+(\([^)]*\))?")


def sample_of(name: str) -> Any:
    return DOCUMENTED[name]["RETURN"]["_value"]["sample"]


def test_every_filter_is_documented() -> None:
    assert set(DOCUMENTED) == set(FILTERS)
    for name, documentation in DOCUMENTED.items():
        assert documentation["DOCUMENTATION"]["name"] == name
        parameters = list(inspect.signature(FILTERS[name]).parameters)
        options = set(documentation["DOCUMENTATION"]["options"]) - {"_input"}
        assert options == set(parameters[1:])
        assert f"qemu.guest_agent.{name}" in json.dumps(yaml.safe_load(documentation["EXAMPLES"]))
        assert documentation["RETURN"]["_value"]["type"]


@pytest.mark.parametrize("name", ["fleet_report_text", "fleet_summary", "guest_text"])
def test_the_sample_is_the_result_of_the_last_example(name: str) -> None:
    environment = jinja2.Environment(autoescape=True)
    environment.filters[f"qemu.guest_agent.{name}"] = FILTERS[name]
    example = yaml.safe_load(DOCUMENTED[name]["EXAMPLES"])[-1]
    expression = _EXPRESSION.search(json.dumps(example, ensure_ascii=False))
    assert expression is not None
    assert environment.compile_expression(expression[0])(**example["vars"]) == sample_of(name)


def test_the_samples_of_results_and_facts_are_real() -> None:
    sample = sample_of("fleet_results")
    elsewhere = {"name": "web9", "status": "skipped", "reason": {"code": "not_found", "message": "", "hint": ""}}
    result = FILTERS["fleet_results"]({"guests": [*sample[0]["guests"], elsewhere]}, "hv1")
    assert FILTERS["fleet_results"](result, ["hv1", "hv2"]) == sample
    facts = sample_of("guest_facts_json")
    assert FILTERS["guest_facts_json"](json.loads(facts)["guests"], "hv1") == facts


def test_every_key_of_the_data_is_documented() -> None:
    def keys(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value).union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    clock = host_clock()
    fleet = [host("hv1", corrected("web1"), failed("web2"), skipped("web3"), host_clock=clock)]
    (returned,) = DOCUMENTED["fleet_report_json"]["RETURN"].values()
    documented = set(re.findall(r"C\((\w+)\)", " ".join(returned["description"]))) - {"_ns"}
    found = keys(json.loads(FILTERS["fleet_report_json"](fleet)))
    assert {key.removesuffix("_ns") for key in found} == {key.removesuffix("_ns") for key in documented}
    assert all(f"{key}_ns" in found for key in ("tolerance", "duration", "max_error", "offset", "round_trip"))


def test_both_reports_have_the_same_options() -> None:
    html, data = (DOCUMENTED[f"fleet_report_{name}"]["DOCUMENTATION"]["options"] for name in ("html", "json"))
    assert html == data

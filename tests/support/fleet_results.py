"""Results of fleet runs for the reports' tests: single guests, whole fleets, and texts that mean harm."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

SECOND_NS = 10**9
TOLERANCE_NS = 100_000_000
UNKNOWN = "\u2013"

Result = dict[str, Any]
Fleet = list[Result]


def corrected(name: str, before_ns: int = -20_973_581_442, after_ns: int | None = -48_211, **other: Any) -> Result:
    return {
        "name": name,
        "status": "corrected",
        "changed": True,
        "within_tolerance": True,
        "method": "set_time",
        "attempts": 1,
        "offset_before_ns": before_ns,
        "uncertainty_before_ns": 571_223,
        "offset_after_ns": after_ns,
        "uncertainty_after_ns": 516_873,
        "round_trip_ns": 1_012_904,
        "duration_ns": 981_235_887,
        **other,
    }


def unchanged(name: str, before_ns: int = 1_234, **other: Any) -> Result:
    nothing = {"changed": False, "method": None, "attempts": 0, "offset_after_ns": None, "uncertainty_after_ns": None}
    return corrected(name, before_ns, **{**nothing, "status": "unchanged", **other})


def slewing(name: str, before_ns: int = 200_000_000, **other: Any) -> Result:
    figures = {"within_tolerance": False, "method": "extended", "status": "slewing", **other}
    return corrected(name, before_ns, after_ns=before_ns - 5_000, **figures)


def unproven(name: str) -> Result:
    why = {"code": "not_converged", "message": "the clock is not proven to be within 0.1 s", "hint": "Raise tolerance."}
    figures = {"uncertainty_after_ns": 156_000_000, "within_tolerance": None}
    return corrected(name, after_ns=30_000_000, **figures, status="failed", error=why)


def failed(name: str, code: str = "not_connected", message: str = "no agent", hint: str = "Install it.") -> Result:
    return {"name": name, "status": "failed", "error": {"code": code, "message": message, "hint": hint}}


def skipped(name: str, code: str = "not_running") -> Result:
    return {"name": name, "status": "skipped", "reason": {"code": code, "message": "it is off", "hint": "Start it."}}


def host(name: str, *guests: Any, error: Any = None) -> Result:
    return {"host": name, "guests": list(guests), "error": error}


def guests_of(fleet: Fleet) -> list[Result]:
    return [guest for hypervisor in fleet for guest in hypervisor["guests"]]


def _any_result(dice: random.Random, name: str) -> Result:
    after_ns = dice.randint(SECOND_NS // 5, 2 * SECOND_NS)
    figures = {"uuid": f"{dice.getrandbits(128):032x}", "uncertainty_before_ns": dice.randint(100_000, 900_000)}
    status = dice.choices(("corrected", "unchanged", "skipped", "failed", "not_converged"), (60, 25, 7, 6, 2))[0]
    if status == "skipped":
        return skipped(name)
    if status == "failed":
        return failed(
            name, dice.choice(("not_connected", "unresponsive")), f"the agent of domain {name} does not answer"
        )
    if status == "unchanged":
        return unchanged(name, dice.randint(-TOLERANCE_NS, TOLERANCE_NS), **figures)
    if status == "not_converged":
        return {**unproven(name), **figures, "within_tolerance": False, "attempts": 3, "offset_after_ns": after_ns}
    before_ns = dice.choice((-1, -1, -1, 1)) * (TOLERANCE_NS + int(10 ** dice.gauss(9.9, 0.6)))
    method = dice.choice(("extended", "set_time"))
    return corrected(name, before_ns, int(dice.gauss(0, 200_000)), **figures, method=method)


def fleet_of(number: int) -> Fleet:
    """Return a fleet of that many guests, the same one every time; a hypervisor of a large one is out of reach."""
    dice = random.Random(7)
    kinds = ("web", "db", "mail", "build", "cache", "k8s-node")
    guests = [_any_result(dice, f"{dice.choice(kinds)}{index + 1}") for index in range(number)]
    many = min(200, number // 16 + 1)
    fleet = [host(f"hv{index + 1:02}.example.org", *guests[index::many]) for index in range(many)]
    if number > 100:
        why = {"code": "hypervisor_unavailable", "message": "qemu:///system: refused", "hint": "Check the uri."}
        fleet.append(host("hv99.example.org", error=why))
    return fleet


# Shown to the letter.
HOSTILE = (
    "<script>window.pwned=1</script>",
    '" autofocus onfocus="window.pwned=1',
    "'><img src=x onerror=window.pwned=1>",
    "</title></style></script><svg onload=window.pwned=1>",
    "</textarea><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example><!--",
    "{{ 7 * 7 }}",
    "{{ lookup('pipe', 'id') }}{% raw %}{# x #}",
    "שלום",
    "<!--<script>",
    "--><script>window.pwned=1//",
    "]]><svg/onload=window.pwned=1>",
    "javascript:window.pwned=1",
    "&lt;script&gt;window.pwned=1&lt;/script&gt;&#x1b;",
    "';window.pwned=1;//\\",
    "${window.pwned=1}`",
)
# Shown as what they are.
DISGUISED: Mapping[str, str] = {
    "\u202etxt.exe": "\\u202etxt.exe",
    "\u2066a\u2069\u200f": "\\u2066a\\u2069\\u200f",
    "\x1b[31mred\x1b]0;title\x07": "\\u001b[31mred\\u001b]0;title\\u0007",
    "\x9b31mred": "\\u009b31mred",
    "nul\0": "nul\\u0000",
    "one\r\ntwo\x85": "one\\r\\ntwo\\u0085",
    "';\u2028window.pwned=1;\u2029//": "';\\u2028window.pwned=1;\\u2029//",
    "a\u200bb\ufeff": "a\\u200bb\\ufeff",
    "half \ud800": "half \\ud800",
}
# Cut.
ENDLESS = ("A" * 10_000_000, "z" + "\u0335\u0336" * 500)


def hostile_fleet() -> Fleet:
    texts = [*HOSTILE, *DISGUISED, "A" * 100_000]
    guests = [corrected(text, -(10**9), 5, uuid=text, method=text) for text in texts]
    for text in texts:
        why = {"code": text, "message": text, "hint": text}
        guests += [{"name": text, "status": "failed", "error": why}, {"name": text, "status": "skipped", "reason": why}]
    return [host(text, *guests, error={"code": text, "message": text}) for text in texts[:4]]

"""Results of fleet runs for tests of the reports: single guests, whole fleets, and hostile texts."""

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
    figures = {
        "offset_before": before_ns,
        "uncertainty_before": 571_223,
        "offset_after": after_ns,
        "uncertainty_after": 516_873,
        "offset": before_ns if after_ns is None else after_ns,
        "uncertainty": 571_223 if after_ns is None else 516_873,
        "round_trip": 1_012_904,
        "resolution": 1_000,
        "duration": 981_235_887,
    }
    return {
        "name": name,
        "status": "corrected",
        "changed": True,
        "within_tolerance": True,
        "method": "set_time",
        "attempts": 1,
        **with_seconds(figures),
        "slewing": None,
        "warnings": [],
        **other,
    }


def with_seconds(figures_ns: Mapping[str, int | None]) -> Result:
    """Return each figure in nanoseconds, and its twin in seconds."""
    seconds = {name: None if ns is None else ns / SECOND_NS for name, ns in figures_ns.items()}
    return {**{f"{name}_ns": ns for name, ns in figures_ns.items()}, **seconds}


def not_stepped(name: str, status: str, before_ns: int, **other: Any) -> Result:
    nothing = {"changed": False, "method": None, "attempts": 0, "offset_after_ns": None, "uncertainty_after_ns": None}
    return corrected(name, before_ns, None, **{**nothing, "status": status, **other})


def unchanged(name: str, before_ns: int = 1_234, **other: Any) -> Result:
    return not_stepped(name, "unchanged", before_ns, **other)


def would_correct(name: str, before_ns: int = -20_973_581_442, **other: Any) -> Result:
    """Return the result of check mode."""
    return not_stepped(name, "would_correct", before_ns, **{"within_tolerance": False, "changed": True, **other})


def slewing(name: str, before_ns: int = 200_000_000, **other: Any) -> Result:
    figures = {"within_tolerance": False, "method": "extended", "status": "slewing", **other}
    return corrected(name, before_ns, after_ns=before_ns - 5_000, **figures)


def unproven(name: str) -> Result:
    error = {"code": "not_converged", "message": "the clock is not proven to be within 0.1 s", "hint": "Raise it."}
    figures = {"uncertainty_after_ns": 156_000_000, "within_tolerance": None}
    return corrected(name, after_ns=30_000_000, **figures, status="failed", error=error)


def failed(name: str, code: str = "not_connected", message: str = "no agent", hint: str = "Install it.") -> Result:
    return {"name": name, "status": "failed", "error": {"code": code, "message": message, "hint": hint}}


def skipped(name: str, code: str = "not_running", **other: Any) -> Result:
    reason = {"code": code, "message": "it is off", "hint": "Start it."}
    return {"name": name, "status": "skipped", "reason": reason, **other}


def left_beyond(name: str, before_ns: int = 90 * SECOND_NS) -> Result:
    """Return the result of a guest whose clock may not be stepped back."""
    warning = f"the guest is {before_ns / SECOND_NS:g} s ahead and was left so: backward=slew forbids stepping it back"
    return unchanged(name, before_ns, within_tolerance=False, warnings=[warning])


def host(name: str, *guests: Any, error: Any = None, host_clock: Any = None) -> Result:
    return {"host": name, "guests": list(guests), "error": error, "host_clock": host_clock}


def host_clock(synchronized: bool | None = True, max_error_ns: int | None = 1_530_000) -> Result:
    source = "chronyd" if synchronized else None
    return {"synchronized": synchronized, **with_seconds({"max_error": max_error_ns}), "source": source}


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
            name, dice.choice(("not_connected", "unresponsive")), f"the agent of domain '{name}' does not answer"
        )
    if status == "unchanged":
        return unchanged(name, dice.randint(-TOLERANCE_NS, TOLERANCE_NS), **figures)
    if status == "not_converged":
        return {**unproven(name), **figures, "within_tolerance": False, "attempts": 3, "offset_after_ns": after_ns}
    before_ns = dice.choice((-1, -1, -1, 1)) * (TOLERANCE_NS + int(10 ** dice.gauss(9.9, 0.6)))
    method = dice.choice(("extended", "set_time"))
    return corrected(name, before_ns, int(dice.gauss(0, 200_000)), **figures, method=method)


def fleet_of(number: int) -> Fleet:
    """Return a fleet of that many guests, the same one every time; a hypervisor of a large one is unreachable."""
    dice = random.Random(7)
    kinds = ("web", "db", "mail", "build", "cache", "k8s-node")
    guests = [_any_result(dice, f"{dice.choice(kinds)}{index + 1}") for index in range(number)]
    many = min(200, number // 16 + 1)
    fleet = [
        host(f"hv{index + 1:02}.example.org", *guests[index::many], host_clock=host_clock(index != 1))
        for index in range(many)
    ]
    if number > 100:
        error = {"code": "hypervisor_unavailable", "message": "qemu:///system: refused", "hint": "Check the uri."}
        fleet.append(host("hv99.example.org", error=error))
    return fleet


def by_socket(fleet: Fleet) -> Fleet:
    """Return the same fleet as Proxmox VE has it. Some VMs' names are known from the node, some from their agents."""
    return [
        {
            **hypervisor,
            "guests": [
                {
                    **{key: value for key, value in guest.items() if key != "uuid"},
                    "name": f"/var/run/qemu-server/{100 + number}.qga",
                    **(
                        {"vm_name": guest["name"], "vm_name_from": "node" if number % 3 else "agent"}
                        if number % 4
                        else {}
                    ),
                }
                for number, guest in enumerate(hypervisor["guests"])
            ],
        }
        for hypervisor in fleet
    ]


def small_fleet() -> Fleet:
    """Return a plausible run on 24 guests of three hypervisors, for the picture in the guides."""
    dice = random.Random(24)
    names = [f"{kind}{number}" for kind in ("web", "app", "db", "mail") for number in range(1, 7)]
    guests = {
        name: corrected(
            name,
            -41_000_000_000 - dice.randrange(9 * SECOND_NS),
            int(dice.gauss(0, 300_000)),
            method=dice.choice(("extended", "set_time")),
            round_trip_ns=dice.randrange(700_000, 1_600_000),
            duration_ns=dice.randrange(40_000_000, 1_200_000_000),
        )
        for name in names
    }
    for name in ("web4", "app2", "db5", "mail1", "mail2"):
        guests[name] = unchanged(name, int(dice.gauss(0, 2_000_000)))
    guests["db3"] = failed(
        "db3",
        "unresponsive",
        "the agent of domain 'db3' did not answer within 5 s",
        "Check in the guest that qemu-guest-agent runs, and restart it.",
    )
    guests["mail6"] = left_beyond("mail6")
    for name in ("app6", "web5"):
        guests[name] = skipped(name)
        guests[name]["reason"]["message"] = f"domain '{name}' at qemu:///system is shut off"
        guests[name]["reason"]["hint"] = "Start or resume the guest first."
    guests["web2"]["warnings"] = ["the real-time clock was not updated: the agent of this guest cannot set it"]
    made = [(f"hv{number + 1}", list(guests.values())[number::3]) for number in range(3)]
    return [host(name, *members, host_clock=host_clock(name != "hv3")) for name, members in made]


# Shown unchanged.
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
# Shown with escapes.
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
# Shortened.
ENDLESS = ("A" * 10_000_000, "z" + "\u0335\u0336" * 500)


def hostile_fleet() -> Fleet:
    texts = [*HOSTILE, *DISGUISED, "A" * 100_000]
    guests = [corrected(text, -(10**9), 5, uuid=text, method=text, vm_name=text, warnings=[text]) for text in texts]
    for text in texts:
        problem = {"code": text, "message": text, "hint": text}
        guests += [
            {"name": text, "status": "failed", "error": problem},
            {"name": text, "status": "skipped", "reason": problem},
        ]
    clock = {"synchronized": False, "max_error_ns": 5, "source": texts[0]}
    return [host(text, *guests, error={"code": text, "message": text}, host_clock=clock) for text in texts[:4]]


def without_host_clocks(summary: list[str]) -> list[str]:
    """Return a summary without the lines on the clock of this machine, which may or may not be synchronized."""
    return [line for line in summary if not line.startswith(("The clock of", "The clocks of"))]

"""A guest's text never becomes a template when a playbook joins it to its own text, stores it and uses it.

ansible-core up to 2.18 evaluates stored results as templates, so an older one runs these tests in every tier.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from ansible_collections.qemu.guest_agent.plugins.module_utils._untrusted import visible

from tests.fakes.agent import serving
from tests.hostile.agent import STOCK, HostileAgent
from tests.processes.ansible_run import CORES, NEWEST, OLDEST, Play, play, run_playbook, write_play
from tests.processes.socket_server import listen_unix
from tests.support.bait import Remainder, in_two, remainders
from tests.support.tiers import quick

ENVIRONMENT = {"ANSIBLE_PIPELINING": "1"}


def complete(texts: Mapping[str, Remainder], kept: Path) -> Play:
    """Return a play that joins its own texts to those of a file, stores the results, and uses them."""
    joined = {
        f"{how}_{name}": f"{{{{ {before!r} ~ (texts.{name}{trimmed}) ~ {after!r} }}}}"
        for name, (before, _text, after) in texts.items()
        for how, trimmed in (("plain", ""), ("trimmed", " | trim"))
    }
    return play(
        "localhost",
        {"name": "Read", "ansible.builtin.include_vars": str(kept)},
        *({"name": "Keep", "ansible.builtin.set_fact": {name: text}} for name, text in joined.items()),
        *(
            {"name": "Store again", "ansible.builtin.set_fact": {f"{name}_again": f"{{{{ {name} }}}}"}}
            for name in joined
        ),
        *({"name": "Show", "ansible.builtin.debug": {"var": f"{name}_again"}} for name in joined),
    )


@pytest.mark.parametrize("core", quick(CORES, [OLDEST]))
def test_no_playbook_completes_a_template_that_a_guest_began(core: str, tmp_path: Path) -> None:
    """Texts are written to a file, read back, joined to the playbook's own and stored again."""
    (tmp_path / "canaries").mkdir()
    (tmp_path / "guests").mkdir()
    texts = remainders(tmp_path / "canaries")
    kept = tmp_path / "kept.json"
    write = {
        "content": "{{ {'texts': dict(fleet.guests | map(attribute='name') | map('basename') | map('splitext')"
        " | map('first') | zip(fleet.guests | map(attribute='os.name')))} | to_json | string }}",
        "dest": str(kept),
    }
    with contextlib.ExitStack() as stack:
        for name, each in texts.items():
            agent = HostileAgent(in_two(name, each.text), STOCK)
            stack.enter_context(serving(listen_unix(tmp_path / "guests" / f"{name}.qga"), agent))
        ask = {"sockets": [str(tmp_path / "guests" / "*.qga")], "gather_subset": ["os"]}
        keep = play(
            "localhost",
            {"name": "Ask", "qemu.guest_agent.qga_info": ask, "register": "fleet"},
            {"name": "Write", "ansible.builtin.copy": write},
        )
        playbook = write_play(tmp_path / "play.yml", keep, complete(texts, kept))
        run = run_playbook(playbook, environment=ENVIRONMENT, core=core)
    assert run.status == 0, run.output[-3000:]
    assert [path.name for path in (tmp_path / "canaries").iterdir()] == []
    written = json.loads(kept.read_text(encoding="utf-8"))["texts"]
    assert written == {name: visible(each.text) for name, each in texts.items()}


@pytest.mark.parametrize("core", quick([core for core in CORES if core != NEWEST], [OLDEST]))
def test_without_escaping_a_playbook_completes_a_template_that_a_guest_began(core: str, tmp_path: Path) -> None:
    """Otherwise, the test above would prove nothing. ansible-core 2.19 does not evaluate stored results."""
    (tmp_path / "canaries").mkdir()
    texts = remainders(tmp_path / "canaries")
    kept = tmp_path / "kept.json"
    kept.write_text(json.dumps({"texts": {name: each.text for name, each in texts.items()}}), encoding="utf-8")
    run = run_playbook(write_play(tmp_path / "play.yml", complete(texts, kept)), environment=ENVIRONMENT, core=core)
    assert {path.name for path in (tmp_path / "canaries").iterdir()} == set(texts), run.output[-3000:]

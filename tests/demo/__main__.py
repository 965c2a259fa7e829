"""A demonstration of the main task on a real guest: python -m tests.demo."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.processes.ansible_run import PlaybookRun, run_playbook
from tests.support.correction import TASK, correct_by_virsh, save_and_restore
from tests.support.table import format_table
from tests.vm.deployment import deploy
from tests.vm.errors import VmError
from tests.vm.guest import Guest
from tests.vm.session import libvirt_session, restored_guest
from tests.vm.witness import Reading

GUEST = "qga-demo"
ASLEEP_S = 5.0
PLAYBOOK = Path(__file__).with_name("correct.yml")


def main() -> int:
    narrator = Narrator()
    try:
        with (
            libvirt_session(narrator.say) as connection,
            restored_guest(connection, GUEST, say=narrator.say) as guest,
        ):
            rows = show(guest, narrator)
    except VmError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    narrator.head("The guest's offset, as read by a witness in it that uses neither the agent nor this collection")
    print(format_table(["", "before", "after", "witness ±", "reported ±", "seconds"], rows))
    return 0


class Narrator:
    """Prints what is happening, and when."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begun:6.1f} s] {text}", flush=True)

    def head(self, text: str) -> None:
        print(f"\n{text}\n{'=' * len(text)}", flush=True)

    def show(self, run: PlaybookRun) -> None:
        print("\n".join(f"    | {line}" for line in run.output.splitlines() if line.strip()))


def show(guest: Guest, narrator: Narrator) -> list[list[str]]:
    """Save and restore the guest three times, and correct it with our playbook, virsh and the extended agent.

    :returns: the rows of the table
    """
    narrator.head("The guest's clock is correct")
    # The witness alone has set it after the restore.
    _play(guest)
    narrator.say(f"according to a witness in the guest, its clock is off by {_shown(guest.witness.offset())}")

    narrator.head("Save the guest to a file, and restore it")
    _sleep(guest, narrator)

    narrator.head(f"Correct its clock: ansible-playbook {PLAYBOOK.name} -e guest={GUEST} --diff")
    ours = _correct(guest, narrator, "qga_update_time, stock agent")

    narrator.head("Run the same playbook again")
    again = _play(guest)
    narrator.show(again)
    narrator.say(f"changed: {str(again.result(TASK)['changed']).lower()}")

    narrator.head("For comparison: save, restore, and run virsh domtime --now")
    _sleep(guest, narrator)
    theirs = correct_by_virsh(guest)
    narrator.say(f"according to the witness, off by {_shown(theirs.after)}; virsh reports nothing")
    virsh = _row("virsh domtime --now", theirs.before, theirs.after, "none", theirs.seconds)

    narrator.head("Deploy the extended agent with the role extended_agent")
    known = _commands(guest)
    narrator.say("deploying it through the stock agent, since the guest has no network ...")
    deploy(guest)
    narrator.say(f"it answers, with the new commands {', '.join(sorted(_commands(guest) - known))}")

    narrator.head("Save, restore, and correct with the same playbook")
    _sleep(guest, narrator)
    return [virsh, ours, _correct(guest, narrator, "qga_update_time, extended agent")]


def _correct(guest: Guest, narrator: Narrator, what: str) -> list[str]:
    before = guest.witness.offset()
    run = _play(guest, "--diff")
    after = guest.witness.offset()
    narrator.show(run)
    entry = run.result(TASK)["guest"]
    claimed_ns = entry["uncertainty_after_ns"]
    narrator.say(
        f"according to the module, off by {_ms(entry['offset_after_ns'])} ±{_ms(claimed_ns)}; method {entry['method']}"
    )
    narrator.say(f"according to the witness, off by {_shown(after)}")
    return _row(what, before, after, _ms(claimed_ns), entry["duration_ns"] / 1e9)


def _commands(guest: Guest) -> set[str]:
    return {command["name"] for command in guest.ask("guest-info")["supported_commands"]}


def _sleep(guest: Guest, narrator: Narrator) -> None:
    narrator.say(f"saving, waiting {ASLEEP_S:g} s, restoring ...")
    save_and_restore(guest, ASLEEP_S)
    narrator.say(f"it is running again; its clock is off by {_shown(guest.witness.offset())}")


def _play(guest: Guest, *arguments: str) -> PlaybookRun:
    run = run_playbook(PLAYBOOK, "-e", f"guest={guest.name}", *arguments)
    if run.status != 0:
        raise VmError(f"The playbook failed:\n{run.output}")
    return run


def _row(what: str, before: Reading, after: Reading, claimed: str, seconds: float) -> list[str]:
    figures = (before.offset_ns, after.offset_ns, after.uncertainty_ns)
    return [what, *map(_ms, figures), claimed, f"{seconds:.2f}"]


def _shown(reading: Reading) -> str:
    return f"{_ms(reading.offset_ns)} (±{_ms(reading.uncertainty_ns)})"


def _ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.3f} ms"


if __name__ == "__main__":
    sys.exit(main())

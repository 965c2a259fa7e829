"""List the attacks, or count the cases that they make: ``python -m tests.hostile [--count]``."""

from __future__ import annotations

import argparse
from collections import Counter

from tests.support.collection import make_importable

make_importable()

from tests.hostile.attacks import ATTACKS  # noqa: E402
from tests.hostile.cases import rounds  # noqa: E402
from tests.hostile.wrong_types import HONEST, swaps  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--count", action="store_true", help="how many there are, by channel and family")
    if not parser.parse_args().count:
        for attack in ATTACKS:
            print(f"{attack.family:10} {attack}")
        return
    by_channel = Counter(each.channel for each in rounds())
    for channel, count in by_channel.items():
        print(f"{count:5} attacks through {channel}")
    for family, count in Counter(attack.family for attack in ATTACKS).items():
        print(f"{count:5} attacks of the family {family}")
    print(f"{sum(1 for command in HONEST for _swap in swaps(command)):5} values of a wrong type")


if __name__ == "__main__":
    main()

"""Who has more to parse than one turn has time for lets others have theirs."""

from __future__ import annotations

import asyncio
import time

from tailrace import limits
from tailrace.server.turns import turns_of


def test_the_line_leaves_the_loop_to_others() -> None:
    """Kind of fault: input in tiny pieces holds the event loop."""

    async def main() -> None:
        turns = turns_of(asyncio.get_running_loop())
        done: list[int] = []
        left = dict.fromkeys(range(40), 3)

        def work(name: int) -> None:
            time.sleep(limits.INPUT_TURN)
            done.append(name)
            left[name] -= 1
            if left[name]:
                turns.add(lambda: work(name))

        for name in left:
            turns.add(lambda name=name: work(name))  # type: ignore[misc] # bound now
        most, before = 0, 0
        while len(done) < 120:
            await asyncio.sleep(0)
            most, before = max(most, len(done) - before), len(done)
        assert most <= 4
        assert done == [*range(40)] * 3

    asyncio.run(main())

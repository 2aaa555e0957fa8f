"""The forks for which a stream is kept that was deleted or has expired."""

from __future__ import annotations

from typing import Final

import apsw

from tailrace.store.sqlite.record import Record, load_many

__all__ = ["forks_of"]

_MOST: Final = 100
"""One that is not over is mostly found among them; those that are wait for their sweep, which takes
more at a time. Stops: a look at a path that walks through all forks that ever were."""

_DESCENDANTS: Final = f"""
WHERE id IN (
  WITH RECURSIVE fork(id) AS (
    SELECT id FROM stream WHERE source = ?
    UNION ALL SELECT s.id FROM fork JOIN stream s ON s.source = fork.id
  )
  SELECT s.id FROM fork JOIN stream s ON s.id = fork.id WHERE s.gone = 0 LIMIT {_MOST}
)
"""


def forks_of(connection: apsw.Connection, generation: int) -> list[Record]:
    """A stream's forks, and theirs, that were not deleted; not all, if they are very many.

    While one of them lives, all that it inherits from are kept.
    """
    return load_many(connection, _DESCENDANTS, (generation,))

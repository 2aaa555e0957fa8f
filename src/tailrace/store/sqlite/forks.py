"""The forks for which a stream is kept that was deleted or has expired.

There may be thousands, and whoever asks for the stream has to be told that it is gone. So they are
not counted: the first that lives by what the file says is enough. Only where none does, those that
seem to have expired are looked at one by one, for this process may know of a later use.
"""

from __future__ import annotations

import json
from typing import Final

import apsw

from tailrace.store.sqlite.record import Record, load_many

__all__ = ["expired_forks"]

_MOST: Final = 100
"""So many are looked at: those that have expired wait for their sweep, which takes more at a time.
Stops: a look at a path that walks through all forks that ever were."""

_FORKS: Final = f"""
SELECT s.* FROM json_each(?1) k CROSS JOIN stream s ON s.source = k.value LIMIT {_MOST}
"""

_ONE_LIVES: Final = f"""
SELECT EXISTS (
  SELECT 1 FROM ({_FORKS})
  WHERE gone = 0 AND coalesce(expires_at > ?2, touched + ttl * 1000 > ?2, 1)
)
"""

_OTHERS: Final = f"SELECT json_group_array(json_array(id, gone)) FROM ({_FORKS})"

_BY_IDS: Final = "WHERE id IN (SELECT value FROM json_each(?))"


def expired_forks(connection: apsw.Connection, generation: int, now: int) -> list[Record] | None:
    """A stream's forks, and theirs, that have expired by what the file says; not all of very many.

    Args:
        connection: To the file.
        generation: The stream; it is gone.
        now: Milliseconds since the epoch.

    Returns:
        None if one lives: while it does, all that it inherits from are kept.
    """
    expired: list[int] = []
    sources = [generation]
    while sources and len(expired) < _MOST:
        level = json.dumps(sources)
        if connection.execute(_ONE_LIVES, (level, now)).get:
            return None
        found = json.loads(connection.execute(_OTHERS, (level,)).get)
        expired += [fork for fork, is_gone in found if not is_gone]
        # One that is gone is kept for those below it, and so is one that has expired.
        sources = [fork for fork, _ in found]
    return load_many(connection, _BY_IDS, (json.dumps(expired[:_MOST]),))

"""What was not understood in a header or field that is known: counted, and warned of once.

Never raises, never keeps a text. The names are those of this package's tables, so the memory is
bounded; the bound is kept here all the same.
"""

from __future__ import annotations

import logging

log = logging.getLogger("limiter")

_MOST_NAMES = 256


class Oddities:
    """Count what was ignored.

    Attributes:
        count: how often, by the name of the header. Threads that meet in one count may lose one of
            two; the warning is given by exactly one of them.
    """

    def __init__(self) -> None:
        self.count: dict[str, int] = {}
        self._first: dict[str, object] = {}

    def note(self, name: str, found: object) -> None:
        """Count one that was found, and warn at the first of its name."""
        if name not in self.count and len(self.count) >= _MOST_NAMES:
            return
        self.count[name] = self.count.get(name, 0) + 1
        mine = object()
        # One step for every thread, unlike a look and a write.
        if self._first.setdefault(name, mine) is mine:
            log.warning(
                "A provider's answer has %s: %.60r, which cannot be read. It is ignored, here and "
                "from now on; providers.oddities.count tells how often.",
                name,
                found,
            )


oddities = Oddities()

"""What a step saved, as one value that can be added up and printed. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Savings:
    """Hold the tokens before and after a step; the sum of two is that of both steps' inputs.

    Attributes:
        before, after: in tokens.
        dropped: how many messages were left out as a whole.
    """

    before: int = 0
    after: int = 0
    dropped: int = 0

    @property
    def saved(self) -> int:
        """Return the tokens that are gone; below 0 where a step adds some, as an overlap does."""
        return self.before - self.after

    @property
    def share(self) -> float:
        """Return the saved part of what there was, 0 to 1."""
        return self.saved / self.before if self.before else 0.0

    def __add__(self, other: Savings) -> Savings:
        return Savings(
            self.before + other.before, self.after + other.after, self.dropped + other.dropped
        )

    def __str__(self) -> str:
        text = f"{self.before:,} -> {self.after:,} tokens, {self.saved:,} saved ({self.share:.1%})"
        if not self.dropped:
            return text
        return f"{text}, {self.dropped:,} message{'' if self.dropped == 1 else 's'} left out"

"""How many tokens a text, a chat prompt or a whole request is: offline, and honest about it.

A count is called exact only where the same was seen to be billed; for all else `Count.assumptions`
says what was taken for granted. Admission needs none of this: OpenAI itself counts bytes/4 there
(`limiter.providers`). Nothing here opens a connection, and no content raises.
"""

from __future__ import annotations

from limiter.tokens.request import DEFAULT_MODEL, Count, count, count_request
from limiter.tokens.vocabulary import encoding_for, encoding_name, read_ranks, vocabulary_dirs

__all__ = [
    "DEFAULT_MODEL",
    "Count",
    "count",
    "count_request",
    "encoding_for",
    "encoding_name",
    "read_ranks",
    "vocabulary_dirs",
]

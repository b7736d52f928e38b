"""Shorter prompts: templates, compact texts, chats that fit, and texts that are cut and worked on.

    from limiter.prompts import PromptTemplate, compact, fit_messages, map_reduce, split_text

Every piece tells what it saved. None of them knows of quotas, calls an API or changes what it was
given; `limiter` never imports this package.
"""

from __future__ import annotations

from limiter.prompts.body import optimize_body
from limiter.prompts.compacting import Compacted, compact
from limiter.prompts.cutting import Cut, cut_text
from limiter.prompts.fitting import Fitted, fit_messages
from limiter.prompts.mapping import Reduced, amap_reduce, map_reduce
from limiter.prompts.savings import Savings
from limiter.prompts.splitting import Chunks, split_text
from limiter.prompts.template import Budget, PromptTemplate

__all__ = [
    "Budget",
    "Chunks",
    "Compacted",
    "Cut",
    "Fitted",
    "PromptTemplate",
    "Reduced",
    "Savings",
    "amap_reduce",
    "compact",
    "cut_text",
    "fit_messages",
    "map_reduce",
    "optimize_body",
    "split_text",
]

"""The command line: `limiter run`, `status`, `quota sync`, `simulate`, `mock-server`.

Needs the extra `cli`; nothing of it is imported before it is known to be there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

_NEEDED = ("typer", "rich", "httpx2")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0 done, 1 some lines failed, 2 wrong usage."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        needs = f"The command line needs {', '.join(missing)}"
        sys.stderr.write(f"{needs}: pip install 'llm-limiter[cli]'\n")
        return 2
    from limiter.cli.app import run_app

    return run_app(arguments)

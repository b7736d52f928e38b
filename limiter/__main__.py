"""Run the command line: `python -m limiter run requests.jsonl -o results.jsonl --rpm 500`."""

from __future__ import annotations

import sys

from limiter.cli import main

if __name__ == "__main__":
    sys.exit(main())

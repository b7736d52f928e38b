"""Run the mock server: `python -m limiter.mock --rpm 500 --tpm 30000`."""

from __future__ import annotations

import sys

from limiter.mock import main

sys.exit(main())

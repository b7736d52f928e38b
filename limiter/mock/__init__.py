"""An OpenAI-compatible server that enforces RPM and TPM as OpenAI does, for tests and benchmarks.

    with background(MockConfig(rpm=500, tpm=30_000)) as server:
        client = OpenAI(base_url=server.base_url, api_key="any", max_retries=0)
        ...
        print(server.stats()["limits"]["tokens"]["share_after_burst"])

Its answers follow from a seed; its limits, headers and refusals follow OpenAI's. It needs the
extra `mock` (`pip install 'llm-limiter[mock]'`), which loads when a server starts.
"""

from __future__ import annotations

from limiter.mock.config import MockConfig
from limiter.mock.serving import MockServer, background, create_app, main, serve

__all__ = ["MockConfig", "MockServer", "background", "create_app", "main", "serve"]

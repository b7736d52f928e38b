"""An OpenAI-compatible server that enforces RPM and TPM as providers do, for tests and benchmarks.

    with background(MockConfig(rpm=500, tpm=30_000)) as server:
        client = OpenAI(base_url=server.base_url, api_key="any", max_retries=0)
        ...
        server.set_limits(tpm=20_000)  # in mid-run, and also over HTTP: POST /limits
        server.refuse(cooldown_s=2)  # POST /refuse; its other fields: control.read_refusal
        server.set_faults(error_rate=0.1)  # POST /faults
        print(server.stats()["limits"]["tokens"]["share_after_burst"], server.timeline())

Its answers follow from a seed; its limits, headers and refusals follow OpenAI's unless told
otherwise. It needs the extra `mock` (`pip install 'llm-limiter[mock]'`), which loads when a server
starts.
"""

from __future__ import annotations

from limiter.mock.config import MockConfig
from limiter.mock.serving import MockServer, background, create_app, main, serve

__all__ = ["MockConfig", "MockServer", "background", "create_app", "main", "serve"]

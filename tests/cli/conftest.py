"""The directory in which the commands are run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from limiter.mock import MockConfig, background
from tests.cli.home import Home


@pytest.fixture
def home(request: pytest.FixtureRequest) -> Iterator[Home]:
    config = getattr(request, "param", None) or MockConfig(rpm=10**6, tpm=10**9)
    folder = Path(tempfile.mkdtemp(prefix="lim-", dir="/tmp"))
    with background(config) as server:
        yield Home(folder, server)
    shutil.rmtree(folder, ignore_errors=True)

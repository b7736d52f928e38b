"""What keeps calls back beside the levels, brake and circuit: `lua/lib/gates.lua` and `circuit.lua`.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from limiter.core.flows import Id

PROBE_US = 60_000_000
DENIALS = 5
FAILURES = 10
FAILING_US = 10_000_000
SHUT_US = 10_000_000
SHUT_MAX_US = 300_000_000
BUDGET_START, BUDGET_MOST, BUDGET_US = 50, 500, 200_000


@dataclass(slots=True)
class Gate:
    """Hold what keeps back the calls on a route."""

    route: str
    brake_us: int = 0
    shut_us: int = 0  # until when the circuit is open; 0: it is closed
    probe_until: int = 0
    probe: Id | None = None
    denied: bool = False  # calls were denied, not failed

    def is_for(self, route: str) -> bool:
        """Say whether calls on a route take from its quotas."""
        return not self.route or set(self.route.split("\n")) <= set(route.split("\n"))


@dataclass(slots=True)
class RouteRecord:
    """Hold what calls on a route came to, and how many may be repeated (in fifths)."""

    budget_at: int
    fails: int = 0
    denied: int = 0
    since: int = 0
    shut_for_us: int = 0
    cut_at: int = 0
    budget: int = BUDGET_START

    def grow(self, now: int) -> None:
        """Let time pass."""
        grown = (now - self.budget_at) // BUDGET_US
        self.budget = min(BUDGET_MOST, self.budget + grown)
        self.budget_at += grown * BUDGET_US

    def count_failure(self, now: int, *, denied: bool) -> bool:
        """Note one more failure; say whether these are too many."""
        if not self.fails:
            self.since = now
        self.fails += 1
        self.denied += denied
        lasting = self.fails >= FAILURES and now - self.since >= FAILING_US
        return lasting or self.denied >= DENIALS


@dataclass(slots=True)
class Gates:
    """Hold the gates of a unit."""

    gates: list[Gate] = field(default_factory=list)

    def brake_ends(self, route: str, now: int) -> int:
        """Return when the brake lets calls on a route go; `now`: it does not hold."""
        return max([now, *(g.brake_us for g in self.gates if g.is_for(route))])

    def shut_until(self, route: str, key: Id, now: int) -> tuple[int, bool] | None:
        """Return until when an open circuit keeps a call out, and whether because calls were denied.

        None: it may pass, as the probe if there is a circuit.
        """
        for gate in self.gates:
            if gate.shut_us and gate.probe != key and gate.is_for(route):
                until = max(gate.shut_us, gate.probe_until)
                if until > now:
                    return until, gate.denied
                gate.probe_until, gate.probe = now + PROBE_US, key
        return None

    def release_probe(self, key: Id) -> None:
        """Make room for the next probe."""
        for gate in self.gates:
            if gate.probe == key:
                gate.probe_until, gate.probe = 0, None

    def tidy(self, now: int) -> None:
        """Forget gates that keep nobody back."""
        self.gates = [each for each in self.gates if each.brake_us > now or each.shut_us]

    def hold_back(self, route: str, until: int) -> None:
        """Let nobody on a route start before."""
        gate = self._of(route)
        gate.brake_us = max(gate.brake_us, until)

    def open(self, route: str, record: RouteRecord, now: int) -> None:
        """Open the circuit, for twice as long as the last time."""
        gate = self._of(route)
        if gate.shut_us > now:
            return
        record.shut_for_us = min(SHUT_MAX_US, max(SHUT_US, record.shut_for_us * 2))
        gate.shut_us, gate.probe_until, gate.probe = now + record.shut_for_us, 0, None
        gate.denied = record.denied >= DENIALS

    def close(self, route: str, record: RouteRecord) -> None:
        """Close the circuit: a call came through."""
        record.fails = record.denied = record.shut_for_us = 0
        for gate in self.gates:
            if gate.route == route:
                gate.shut_us, gate.probe_until, gate.probe = 0, 0, None

    def shut_for(self, route: str, now: int) -> int:
        """Return for how long the circuit of a route stays open."""
        return next((max(0, g.shut_us - now) for g in self.gates if g.route == route), 0)

    def _of(self, route: str) -> Gate:
        for gate in self.gates:
            if gate.route == route:
                return gate
        self.gates.append(Gate(route))
        return self.gates[-1]

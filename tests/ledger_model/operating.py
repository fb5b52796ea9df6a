"""What people and operators do: opt-outs, lanes, rates, a new publication."""

from __future__ import annotations

from ledger_kit import publication

from ledger_model.site import BUCKETS, LANES, MIDNIGHTS
from ledger_model.world import World
from producers.ledger import calls


class Operating(World):
    def opt(self, number: str, out: bool, *, scope: str, ago_us: int, by_operator: bool) -> None:
        at_us = self.now - ago_us
        self.run_call(
            calls.opt(
                number, "out" if out else "in", scopes=[scope], occurred_us=at_us, source="api", by_operator=by_operator
            )
        )
        self.say(number, scope, out, min(at_us, self.now), by_operator)

    def pause(self, name: str) -> None:
        self.run_call(calls.lane(name, "pause", "operator"))
        self.paused.add(name)

    def drain(self, name: str) -> None:
        self.run_call(calls.lane(name, "drain", "test"))
        self.drained.setdefault(name, self.now)

    def resume(self, name: str) -> None:
        self.run_call(calls.lane(name, "resume"))
        self.paused.discard(name)
        self.drained.pop(name, None)
        self.holds.pop(f"s:{name}", None)

    def set_rate(self, name: str, t_us: int) -> None:
        self.run_call(calls.lane(name, "rate", t_us))
        self.intervals[f"s:{name}"] = t_us
        self.last_slot.pop(f"s:{name}", None)

    def publish(self, which: str) -> None:
        lanes = {n: row for n, row in LANES.items() if n != "b" or which != "without_b"}
        if which == "b_alone":  # it no longer draws on the campaign and the account
            lanes = {**lanes, "b": {**LANES["b"], "buckets": ["s:b"]}}
        self.run_call(calls.publish(publication(lanes, BUCKETS, digest=which), {"d:acme": MIDNIGHTS}))
        self.draws_on.update({n: row["buckets"] for n, row in lanes.items()})
        self.gone = {"b"} if which == "without_b" else set()

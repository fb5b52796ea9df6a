"""How requests end."""

from __future__ import annotations

from typing import Any

from ledger_model.facts import Facts
from ledger_model.site import MOST_TRIES, PREFIX, SCOPES
from ledger_model.timing import Timing
from ledger_model.working import Working
from producers.ledger import calls
from producers.ledger.calls import Fact, Finish, Taken


class Finishing(Working, Timing, Facts):
    def finish(self, process: str, results: list[Finish]) -> None:
        words = self.run_call(calls.finish(process, results))
        for result, said in zip(results, words, strict=True):
            assert said == self.finished(process, result), (said, result)

    def fall_silent(self, seconds: int, name: str, *, die: bool) -> None:
        """Answers are lost, or a worker is; then what is in doubt may leave again, under another token."""
        if die:
            self.pass_s(11)
        else:
            under_way = [(p, t) for p, t in self.taken if self.messages[t.message].token == t.token]
            for process, t in under_way:
                lost = Finish(message=t.message, token=t.token, outcome="uncertain", why="read_timeout")
                self.finish(process, [lost])
        self.live_on(seconds)
        if die:
            self.live_on(5, each_s=2.5)
        self.send(name, 0, 6)

    def result(
        self,
        t: Taken,
        outcome: Any,
        *,
        delay_us: int,
        hold_us: int,
        scope: Any,
        feedback: bool,
        other_id: bool,
        count: bool,
    ) -> Finish:
        accepted = outcome == "accepted"
        return Finish(
            message=t.message, token=t.token, outcome=outcome, why=outcome, delay_us=0 if accepted else delay_us,
            provider_id=(f"second-{t.message}" if other_id else f"pid-{t.message}") if accepted else None,
            to=[(n, "A") for n in t.to] if accepted and len(t.to) > 1 else (), hold_us=hold_us, scope=scope, feedback=feedback,
            code=None if accepted else "40001", title="x", uses_a_try=count and outcome in ("retry", "not_sent"),
        )  # fmt: skip

    def finished(self, process: str, r: Finish) -> str:
        m = self.messages[r.message]
        before = m.state
        first_time = self.held.get(process, {}).get(m.id) == r.token
        if first_time:
            del self.held[process][m.id]
        if not self.redis.exists(self.ledger.key(f"m:{m.id}")):
            return "gone"
        if r.outcome == "accepted":
            word = self.learn(m, Fact(ref=None, provider_id=r.provider_id, state="A", to=r.to), answer=True)
            if first_time:
                self.hold(m.lane, r.scope, r.hold_us)
            return word
        if m.token != r.token or not (before == "S" or (before == "U" and r.outcome != "uncertain")):
            return "stale"
        self.hold(m.lane, r.scope, r.hold_us)
        if m.attempts <= 1 and r.outcome not in ("uncertain", "conflict"):
            m.maybe = False  # the verdict of its only request
        if r.outcome == "rejected":
            m.state = m.end("R")
        elif r.outcome == "opted_out":
            if not m.group:
                self.say(m.to, SCOPES[m.lane][-1], True, self.now, False)
            m.state = m.end("O")
        elif r.outcome == "uncertain":
            self.doubt(m)
        elif r.outcome == "not_sent":
            m.attempts -= 1
            m.tries += r.uses_a_try
            if r.uses_a_try and m.tries >= MOST_TRIES:
                m.state = m.end("R")
            else:
                self.again(m, r.delay_us)
        elif r.outcome == "conflict" and m.job_type == "careful":
            if before == "S":
                self.doubt(m)
        elif r.outcome == "conflict":
            m.maybe = True
            self.again(m, r.delay_us)
        else:
            m.tries += r.uses_a_try
            if r.uses_a_try and m.tries >= MOST_TRIES:
                m.state = m.end("R")
            else:
                self.again(m, r.delay_us)
        return "ok"

    def hold(self, lane_name: str, which: str, hold_us: int) -> None:
        if hold_us:
            draws = self.draws_on[lane_name]
            bucket = next((b for b in draws if b[0] == PREFIX[which]), draws[0])
            self.holds[bucket] = max(self.holds.get(bucket, 0), self.now + hold_us)

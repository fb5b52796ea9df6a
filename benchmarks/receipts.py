"""Receipts: how many a second one web and one worker process verify and apply, how fast the webhook answers meanwhile, and
what verifying and parsing alone would cost.

    python -m benchmarks receipts [--rate 1600] [--seconds 20] [--nice -10]

Each message gets two receipts, ``message.sent`` and ``message.finalized``, in Telnyx's form with all fields. They come over
kept connections at a fixed rate, whatever the server does (:mod:`benchmarks.open_loop`), so time is counted from the instant
at which a receipt was due. ``applied``: the rate until the last one is in its message's record. The generator and Redis use
the same cores.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
import uuid
from typing import Any

from benchmarks.open_loop import pack
from benchmarks.pacing.__main__ import _raise_priority
from benchmarks.pacing.report import Figure, Result, at_least, at_most, table
from benchmarks.pacing.site import ROOT, TEXT, wait_until
from benchmarks.pacing.usage import cpu_s
from benchmarks.service import BenchService, pid_of, running_bench_service
from producers.ledger.figures import ends, read_figures
from worker.sandbox.messages import iso
from worker.sandbox.signing import Signer
from worker.telnyx.signatures import Verifier, decode_key

RATE_GOAL, P99_GOAL_MS = 1500.0, 50.0
OFFERED = 1600.0  # a little more than is to be applied, for the last ones take their time too
APART = 1000  # receipts between the two of one message


def event(kind: str, mid: str, port: int, now_us: int) -> bytes:
    """A receipt as Telnyx words it."""
    final = kind == "message.finalized"
    cost = {"amount": "0.0051", "currency": "USD"} if final else None
    payload: dict[str, Any] = {
        "record_type": "message", "direction": "outbound", "id": pid_of(mid), "type": "SMS",
        "messaging_profile_id": "abc85f64-5717-4562-b3fc-2c9600000000",
        "organization_id": "b448f9cc-a842-4784-98e9-03c1a5872950",
        "from": {"phone_number": "12345", "carrier": "Telnyx", "line_type": "Wireless"},
        "to": [{"phone_number": "+13125550100", "status": "delivered" if final else "sent",
                "carrier": "T-MOBILE USA, INC.", "line_type": "Wireless"}],
        "cc": [], "text": TEXT, "subject": None, "media": [], "encoding": "GSM-7", "num_chars": len(TEXT), "parts": 1,
        "smart_encoding_applied": False, "cost": cost,
        "cost_breakdown": cost and {"carrier_fee": {**cost, "amount": "0.0011"}, "rate": {**cost, "amount": "0.0040"}},
        "tags": [], "tcr_campaign_id": None, "tcr_campaign_billable": False, "tcr_campaign_registered": None,
        "webhook_url": f"http://127.0.0.1:{port}/webhooks/telnyx?ref={mid}", "webhook_failover_url": None,
        "received_at": iso(now_us - 2_000_000), "sent_at": iso(now_us - 1_000_000),
        "completed_at": iso(now_us) if final else None, "valid_until": None, "wait_seconds": None, "errors": [],
    }  # fmt: skip
    data = {
        "record_type": "event", "id": str(uuid.uuid4()), "event_type": kind, "occurred_at": iso(now_us), "payload": payload,
    }  # fmt: skip
    meta = {"attempt": 1, "delivered_to": payload["webhook_url"]}
    return json.dumps({"data": data, "meta": meta}, separators=(",", ":")).encode()


def request(body: bytes, mid: str, port: int, signer: Signer, now_s: int) -> bytes:
    signed = "".join(f"{name}: {value}\r\n" for name, value in signer.headers(body, now_s).items())
    return (
        f"POST /webhooks/telnyx?ref={mid} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"User-Agent: telnyx-webhooks\r\n{signed}Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def requests_for(mids: list[str], service: BenchService) -> list[bytes]:
    """Two receipts each; the second one follows some hundred others."""
    now_us = time.time_ns() // 1000
    order: list[tuple[int, str, str]] = []
    for i, mid in enumerate(mids):
        order += [(2 * i, "message.sent", mid), (2 * i + APART + 1, "message.finalized", mid)]
    return [
        request(event(kind, mid, service.port, now_us), mid, service.port, service.signer, now_us // 1_000_000)
        for _, kind, mid in sorted(order)
    ]


class Backlog:
    """The oldest batch that is kept and not applied, looked at all the while; a context manager."""

    def __init__(self, service: BenchService) -> None:
        self._service, self._stop = service, threading.Event()
        self.ages_s: list[float] = []

    def __enter__(self) -> Backlog:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        redis, key = self._service.redis, self._service.ledger.key("rx")
        while not self._stop.wait(0.1):
            (seconds, micros), oldest = redis.time(), redis.zrange(key, 0, 0, withscores=True)
            self.ages_s.append((seconds * 1e6 + micros - oldest[0][1]) / 1e6 if oldest else 0.0)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def delivered(service: BenchService) -> int:
    return sum(n for end, n in ends(read_figures(service.ledger)).items() if end.state == "delivered")


def under_load(rate: float, seconds: float) -> Result:
    """One web and one worker process, at this rate."""
    with running_bench_service() as service:
        mids = service.prime(int(rate * seconds / 2))
        service.start("web")
        service.start("worker", "--processes", "1")
        file = service.directory / "requests"
        file.write_bytes(pack(requests_for(mids, service)))
        command = [sys.executable, "-m", "benchmarks.open_loop", str(file), str(service.port), str(rate)]
        load = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        parts, usage = service.parts(), service.usage()
        with Backlog(service) as backlog:
            before = {name: cpu_s(pids) for name, pids in parts.items()}
            others_s = _children_cpu_s()
            out, _ = load.communicate(timeout=10 * seconds + 120)
            others_s = _children_cpu_s() - others_s
            said = json.loads(out)
            wait_until(
                lambda: delivered(service) == len(mids),
                what="all to be applied",
                timeout_s=300,
                every_s=0.02,
                seen=lambda: delivered(service),
            )
            applied_s = time.monotonic() - said["began_s"]
            spent = {name: cpu_s(pids) - before[name] for name, pids in parts.items()}
            cpu = usage.shares()
    spent["generator"] = others_s
    total = 2 * len(mids)
    ok = said["statuses"].get("200", 0)
    figures = [
        at_least("answered with 200", ok, total),
        at_least("verified and applied a second", total / applied_s, min(0.95 * rate, RATE_GOAL), "/s"),
        at_most("webhook's p99, from when it was due", said["from_due_ms"]["p99"], P99_GOAL_MS, "ms"),
        Figure("median, from when it was due", said["from_due_ms"]["p50"], "ms"),
        Figure("p99, from when it was written", said["from_written_ms"]["p99"], "ms"),
        Figure("the generator was late, p99", said["late_ms"]["p99"], "ms"),
        Figure("oldest receipt not applied yet", max(backlog.ages_s), "s"),
        *(Figure(f"CPU a receipt, {name}", 1000 * s / total, "ms") for name, s in spent.items()),
    ]
    return Result(f"receipts at {rate:g}/s", "open loop", 1, seconds, figures, cpu)


def _children_cpu_s() -> float:
    """CPU of those children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def bare(events: int = 3000) -> Result:
    """What verifying and parsing cost alone, in this process: by PyNaCl and json, as web does it."""
    signer, now_s = Signer(bytes(32)), int(time.time())
    bodies = [event("message.finalized", f"{i:032x}-0", 8000, now_s * 1_000_000) for i in range(events)]
    signed = [(body, signer.headers(body, now_s)) for body in bodies]
    verifier = Verifier([decode_key(signer.public_key)])
    started_s = time.process_time()
    for body, headers in signed:
        verifier.verify(body, headers["telnyx-signature-ed25519"], headers["telnyx-timestamp"], now_s)
        json.loads(body)
    each_ms = 1000 * (time.process_time() - started_s) / events
    figures = [Figure("CPU a receipt", each_ms, "ms"), Figure("of one core", 1000 / each_ms, "/s")]
    return Result("verify and parse alone", "no", 0, 0, figures)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks receipts", description=__doc__)
    parser.add_argument("--rate", type=float, nargs="*", default=[OFFERED], help="receipts a second; several: in turn")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--nice", type=int, default=0, help="run everything at this priority, where others use the machine"
    )
    given = parser.parse_args()
    if given.nice:
        _raise_priority(given.nice)
    results = [bare()]
    print(table(results[0]), flush=True)
    for rate in given.rate:
        results.append(under_load(rate, given.seconds))
        print(table(results[-1]), flush=True)
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

"""The receiving server of the benchmarks: it answers like Telnyx, after its latency, and stamps each arrival."""

from __future__ import annotations

import http.client
import json
import sys
import time

import pytest

from benchmarks.pacing.site import Receiving, receiving
from worker.telnyx.outcomes import from_response


@pytest.fixture
def receiver(tmp_path):
    with receiving(tmp_path, 50.0) as running:
        yield running


def post(receiver: Receiving, key: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(receiver.url.removeprefix("http://"), timeout=20)
    body = json.dumps({"from": "12345", "to": "+13125550100", "text": "hello"})
    given = {"Content-Type": "application/json", "Idempotency-Key": key, **headers}
    connection.request("POST", "/v2/messages/short_code", body, given)
    response = connection.getresponse()
    return response, response.read()


def test_its_answer_counts_as_accepted_by_the_gateway(receiver):
    response, body = post(receiver, "m-0")
    outcome = from_response(response.status, {}, body, channel="short_code", is_resend=False, now_s=0)
    assert outcome.kind == "accepted"
    assert outcome.provider_id


def test_it_answers_after_its_latency(receiver):
    before_s = time.monotonic()
    post(receiver, "m-0")
    assert time.monotonic() - before_s >= 0.05


def test_an_arrival_carries_the_instants_of_the_sender_the_kernel_and_the_reader_in_order(receiver):
    sent_ns = time.time_ns()
    post(receiver, "m-7", **{"X-Sent-Ns": str(sent_ns)})
    (row,) = receiver.rows({"12345": "alerts"})
    assert (row.lane, row.message, row.sent_ns) == ("alerts", "m-7", sent_ns)
    assert sent_ns <= row.arrived_ns <= row.read_ns <= time.time_ns()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux stamps arrivals in the kernel")
def test_the_kernels_stamp_does_not_wait_for_the_reader(receiver):
    import os
    import signal
    import threading

    os.kill(receiver.child.pid, signal.SIGSTOP)
    senders = [threading.Thread(target=post, args=(receiver, f"m-{n}")) for n in range(4)]
    for sender in senders:
        sender.start()
    stopped_ns = time.time_ns()
    while time.time_ns() < stopped_ns + 300_000_000:  # how long it is stopped is what the test is about
        time.sleep(0.01)
    os.kill(receiver.child.pid, signal.SIGCONT)
    for sender in senders:
        sender.join(timeout=20)
    rows = receiver.rows({})
    assert len(rows) == 4
    assert min(row.read_ns for row in rows) >= stopped_ns + 300_000_000
    # A busy kernel leaves a segment unstamped now and then; of that one the reader says when it read it.
    assert min(row.arrived_ns for row in rows) < stopped_ns + 200_000_000


def test_what_was_asked_for_is_given_once(receiver):
    post(receiver, "m-0")
    assert len(receiver.rows({})) == 1
    assert receiver.rows({}) == []

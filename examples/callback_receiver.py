"""Receive callbacks: verify, answer, and count each event once.

Needs `pip install standardwebhooks`, and NOTIFY_SECRET, which is the service's. Run it with
`NOTIFY_SECRET=... python examples/callback_receiver.py`; enqueue with callback_url="http://<this host>:8080/events".
"""

from __future__ import annotations

import base64
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

webhook = Webhook("whsec_" + base64.b64encode(os.environ["NOTIFY_SECRET"].encode()).decode())
handled: set[str] = set()  # of a real app: a table with a unique key
newest: dict[str, int] = {}  # the version known of each message


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            event = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_error(400)
            return
        if event["id"] not in handled and event["version"] >= newest.get(event["message"] or "", 0):
            handled.add(event["id"])
            newest[event["message"] or ""] = event["version"] if event["message"] else 0
            about = event["message"] or event["notification"] or event.get("number")  # of an opt-out: the person
            print(event["type"], about, event["state"] or event.get("counts"))
        self.send_response(204)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Receiver).serve_forever()

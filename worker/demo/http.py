"""A few JSON requests to processes of our own, on the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

TIMEOUT_S = 20.0


class Api:
    """An HTTP API that speaks JSON. Environment proxies are not used: all of it is on this machine."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self.url = url
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str, *, patient: bool = False) -> Any:
        """The answer. ``patient``: None instead of an error, for something that is still starting."""
        try:
            return self._ask("GET", path, None)[1]
        except OSError:
            if patient:
                return None
            raise

    def post(self, path: str, body: object) -> tuple[int, Any]:
        """Status and answer, also of a refusal."""
        try:
            return self._ask("POST", path, body)
        except urllib.error.HTTPError as refused:
            return refused.code, json.loads(refused.read() or b"null")

    def call(self, method: str, path: str) -> tuple[int, Any]:
        return self._ask(method, path, None)

    def _ask(self, method: str, path: str, body: object) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=self._headers, method=method)
        with self._opener.open(request, timeout=TIMEOUT_S) as response:
            raw = response.read()
            return response.status, json.loads(raw) if raw else None

"""Who calls, and what they may do: API keys, kept as hashes.

The environment holds the SHA-256 of each key, so reading it gives nobody a key. Keys are long and random, so a fast hash
is enough; the comparison takes the same time whichever key it is, and whether or not there is one.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from worker.settings.variables import ApiKey, Scope
from worker.web.parameters import refuse_unknown
from worker.web.problems import Problem

SCHEME = HTTPBearer(auto_error=False, scheme_name="apiKey", description="A key of NOTIFY_API_KEYS.")


class Keys:
    """The keys of this service."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = [(key.sha256.encode("ascii"), key) for key in keys]

    def find(self, token: str) -> ApiKey | None:
        """Whose key this is. Compares with every key, in constant time each."""
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest().encode("ascii")
        found: ApiKey | None = None
        for held, key in self._keys:
            if hmac.compare_digest(held, digest):
                found = key
        return found


def needs(scope: Scope) -> Callable[..., ApiKey]:
    """A dependency that lets through who may do ``scope``, and gives their key.

    Raises:
        Problem: 401 without a key that we know, 403 with one that may not, 422 for a parameter that the route lacks.
    """

    async def check(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(SCHEME)]) -> ApiKey:
        if given is None:
            raise _unauthorized("send the header `Authorization: Bearer <key>`", 'Bearer realm="notify"')
        keys: Keys = request.app.state.services.keys
        key = keys.find(given.credentials)
        if key is None:
            raise _unauthorized(
                "this key is not known: NOTIFY_API_KEYS has the hashes of those that are",
                'Bearer realm="notify", error="invalid_token"',
            )
        if scope not in key.scopes:
            raise Problem(
                403, "forbidden", f"the key of {key.name} lacks the scope `{scope}`: add it in NOTIFY_API_KEYS"
            )
        refuse_unknown(request)
        return key

    return check  # type: ignore[return-value]


def _unauthorized(detail: str, challenge: str) -> Problem:
    return Problem(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})

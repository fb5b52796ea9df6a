"""What the account holds at Telnyx: numbers, their profiles, orders of bulk changes. For people at a command line.

One request at a time and no event loop; messages never leave by here. Invariants, each with a test named after it:

- What may be repeated without harm is: a listing of a hundred pages must not end at one 429. An order of a bulk change
  is repeated only where nothing of it can have been accepted.
- Every failure is an ``AccountError`` that says what to do; no key stands in it.
- Pages are walked to the last one, and a number is given once even if the list shifts meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from worker.telnyx import sdk
from worker.telnyx.outcomes import errors_in, parse_json, retry_after_s

if TYPE_CHECKING:
    import httpx
    from telnyx import Telnyx

PAGE_SIZE: Final = 250  # Telnyx's most
TOTAL_S: Final = 30.0
TRIES: Final = 4
LONGEST_WAIT_S: Final = 30.0  # what one Retry-After may make a person wait

Method = Literal["GET", "PATCH", "POST"]
Why = Literal["key", "missing", "refused", "limited", "away"]


class AccountError(Exception):
    """A request that came to nothing. ``code`` is Telnyx's; ``may_have_acted`` where the answer was lost."""

    def __init__(self, why: Why, message: str, *, code: str = "", may_have_acted: bool = False) -> None:
        self.why, self.code, self.may_have_acted = why, code, may_have_acted
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; ``pages`` and ``total`` as Telnyx counted them at that moment."""

    rows: list[dict[str, Any]]
    number: int
    pages: int
    total: int


@dataclass(frozen=True, slots=True)
class Order:
    """How far a bulk change is. It is over when nothing is pending."""

    id: str
    success: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


class Account:
    """Telnyx's account. Close it, or use it in a ``with``."""

    def __init__(
        self, api_key: str, base_url: str, *, tries: int = TRIES, pause: Callable[[float], None] = time.sleep
    ) -> None:
        telnyx = sdk.load()
        for name in ("telnyx", "httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)  # the SDK writes whole bodies at DEBUG
        self._base_url, self._tries, self._pause = base_url, tries, pause
        self._client: Telnyx = telnyx.Telnyx(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,  # the repeats are ours: they know what may be repeated
            timeout=TOTAL_S,
            http_client=telnyx.DefaultHttpxClient(follow_redirects=False, trust_env=False),
            client_id="",  # empty, not None: from None the SDK reads the environment, and OAuth would replace the key
            client_secret="",
            public_key="",
            default_headers={"Authorization": f"Bearer {api_key}"},
        )

    def __enter__(self) -> Account:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._client.close()

    def numbers(
        self,
        *,
        profile: str | None = None,
        among: Sequence[str] = (),
        contains: str | None = None,
        kind: str | None = None,
        descending: bool = False,
    ) -> Iterator[Page]:
        """The messaging settings of the account's numbers, by number, page by page."""
        filters = {
            "sort[phone_number]": "desc" if descending else "asc",
            "filter[messaging_profile_id]": profile,
            "filter[phone_number]": ",".join(among) or None,
            "filter[phone_number][contains]": contains,
            "filter[type]": kind,
        }
        given = {name: value for name, value in filters.items() if value is not None}
        return self._pages("/phone_numbers/messaging", "phone_number", given)

    def mobile_numbers(self) -> Iterator[Page]:
        return self._pages("/mobile_phone_numbers/messaging", "phone_number")

    def short_codes(self) -> Iterator[Page]:
        return self._pages("/short_codes", "short_code")

    def profile(self, profile_id: str) -> dict[str, Any]:
        return self._one("GET", f"/messaging_profiles/{_segment(profile_id)}")

    def balance(self) -> dict[str, Any]:
        return self._one("GET", "/balance")

    def number(self, number: str) -> dict[str, Any]:
        """The settings of one number, by its E.164 form or its id."""
        return self._one("GET", f"/phone_numbers/{_segment(number)}/messaging")

    def mobile_number(self, number: str) -> dict[str, Any]:
        return self._one("GET", f"/mobile_phone_numbers/{_segment(number)}/messaging")

    def update_number(
        self, number: str, *, profile: str | None = None, tags: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Change what is given; an empty ``profile`` takes the number off its profile. Safe to repeat."""
        changes: dict[str, Any] = {}
        if profile is not None:
            changes["messaging_profile_id"] = profile
        if tags is not None:
            changes["tags"] = list(tags)
        return self._one("PATCH", f"/phone_numbers/{_segment(number)}/messaging", changes)

    def start_bulk(self, profile: str, numbers: Sequence[str], *, assign_only: bool) -> Order:
        """Order a bulk change; an empty ``profile`` unassigns. Repeated only where nothing was accepted."""
        body = {"messaging_profile_id": profile, "numbers": list(numbers), "assign_only": assign_only}
        return _order(self._one("POST", "/messaging_numbers_bulk_updates", body))

    def bulk(self, order_id: str) -> Order:
        return _order(self._one("GET", f"/messaging_numbers_bulk_updates/{_segment(order_id)}"))

    def _pages(self, path: str, key: str, filters: Mapping[str, str] | None = None) -> Iterator[Page]:
        seen: set[str] = set()
        number = 1
        while True:
            query = {"page[number]": str(number), "page[size]": str(PAGE_SIZE), **(filters or {})}
            payload = self._ask("GET", path, query=query)
            rows = payload.get("data")
            if not isinstance(rows, list):
                raise AccountError("away", f"{self._where()} answered a list that we cannot read: try again later")
            meta = payload.get("meta")
            pages, total = _counts(meta if isinstance(meta, dict) else {}, number, len(rows))
            fresh = [row for row in rows if isinstance(row, dict) and str(row.get(key)) not in seen]
            seen.update(str(row.get(key)) for row in fresh)
            yield Page(fresh, number, pages, total)
            if not rows or number >= pages:
                return
            number += 1

    def _one(self, method: Method, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        data = self._ask(method, path, body=body).get("data")
        if not isinstance(data, dict):
            text = f"{self._where()} answered what we cannot read: try again later"
            raise AccountError("away", text, may_have_acted=True)
        return data

    def _ask(
        self,
        method: Method,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """One request, repeated while that is safe and may help."""
        is_safe = method != "POST"  # a PATCH sets what it names, once or twice
        for tries_left in range(self._tries - 1, -1, -1):
            try:
                response = self._answer(method, path, query, body)
            except AccountError as error:
                if not tries_left or (error.may_have_acted and not is_safe):
                    raise
                self._pause(self._backoff_s(tries_left))
                continue
            payload = parse_json(response.content)
            if 200 <= response.status_code < 300 and isinstance(payload, dict):
                return payload
            failure = self._failure(response, payload)
            is_spared = failure.why in ("key", "missing", "refused") or (failure.may_have_acted and not is_safe)
            if is_spared or not tries_left:
                raise failure
            asked_s = retry_after_s(response.headers, time.time())
            self._pause(min(asked_s if asked_s is not None else self._backoff_s(tries_left), LONGEST_WAIT_S))
        raise AssertionError("the last try returns or raises")

    def _answer(
        self, method: Method, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> httpx.Response:
        import httpx

        telnyx = sdk.load()
        try:
            if method == "GET":
                return self._client.get(path, cast_to=httpx.Response, options={"params": query or {}})
            call = self._client.post if method == "POST" else self._client.patch
            return call(path, cast_to=httpx.Response, body=body)
        except telnyx.APIStatusError as error:
            answered: httpx.Response = error.response
            return answered
        except telnyx.APIConnectionError as error:
            cause = error.__cause__
            left = not isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
            words = "the connection broke before an answer came" if left else "it cannot be reached"
            if isinstance(cause, httpx.TimeoutException) and left:
                words = f"no answer within {TOTAL_S:.0f} s"
            text = f"{self._where()}: {words}: check TELNYX_BASE_URL and the network, or try again"
            raise AccountError("away", text, may_have_acted=left) from error

    def _failure(self, response: httpx.Response, payload: Any) -> AccountError:
        status, where = response.status_code, self._where()
        code, title = next((row for row in errors_in(payload) if row[0]), ("", ""))
        said = " ".join(part for part in (code, title, _detail(payload)) if part) or f"HTTP {status}"
        if status == 401 or code in {"10009", "20002", "20006", "20008"}:
            return AccountError(
                "key", f"{where} refuses the key ({said}): set TELNYX_API_KEY to a valid one", code=code
            )
        if status == 404 or code == "10005":
            return AccountError("missing", f"{where} does not know it ({said})", code=code)
        if status == 429:
            return AccountError("limited", f"{where} takes no more requests now ({said}): try again later", code=code)
        if status >= 500 or 200 <= status < 400:
            text = f"{where} answered {said}: try again later"
            return AccountError("away", text, code=code, may_have_acted=True)
        return AccountError("refused", f"{where} refuses it ({said})", code=code)

    def _where(self) -> str:
        return f"Telnyx at {self._base_url}"

    def _backoff_s(self, tries_left: int) -> float:
        exponent: int = self._tries - 1 - tries_left
        return min(0.5 * float(2**exponent), LONGEST_WAIT_S)


def _segment(text: str) -> str:
    """A part of a path: whatever is in it stays in it."""
    return quote(text, safe="")


def _counts(meta: Mapping[str, Any], number: int, rows: int) -> tuple[int, int]:
    """Pages and rows in all, as far as ``meta`` says; without it a full page is followed by another."""
    pages, total = meta.get("total_pages"), meta.get("total_results")
    if not isinstance(pages, int):
        pages = number + 1 if rows >= PAGE_SIZE else number
    return pages, total if isinstance(total, int) else (number - 1) * PAGE_SIZE + rows


def _order(data: Mapping[str, Any]) -> Order:
    lists = {name: data.get(name) for name in ("success", "failed", "pending")}
    if not isinstance(data.get("order_id"), str):
        raise AccountError("away", "Telnyx answered an order without an id: look at the numbers", may_have_acted=True)
    found = {name: tuple(map(_named, rows)) if isinstance(rows, list) else () for name, rows in lists.items()}
    return Order(data["order_id"], **found)


def _named(row: Any) -> str:
    """A number of an order; some answers are known to hold objects where strings are declared."""
    return str(row.get("phone_number", row)) if isinstance(row, dict) else str(row)


def _detail(payload: Any) -> str:
    with contextlib.suppress(AttributeError, TypeError, KeyError, IndexError):
        row = payload["errors"][0] if "errors" in payload else payload
        return str(row.get("detail") or "")[:300]
    return ""

"""The numbers of the account, their messaging settings and profiles."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from worker.sandbox.messages import ORGANIZATION_ID, iso, profile_of_number
from worker.sandbox.refusals import Refusal

_TOLL_FREE = ("+1800", "+1833", "+1844", "+1855", "+1866", "+1877", "+1888")
_NAMESPACE = uuid.UUID("1d7f4f6d-2f0b-4f44-9f58-6f6f4f0e0003")
POOL_SIZE = 3
_TWO_WAY = {"domestic_two_way": True, "international_inbound": False, "international_outbound": False}


@dataclass(slots=True)
class Number:
    """One number and what can be set on it; ``profile`` None means unassigned."""

    number: str
    is_mobile: bool
    created_us: int
    profile: str | None
    product: str = "A2P"
    tags: list[str] = field(default_factory=list)
    updated_us: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)  # replaces whole fields of the row
    refusal: str | None = None  # the code that lookups and changes are refused with

    @property
    def id(self) -> str:
        return str(uuid.uuid5(_NAMESPACE, self.number))

    @property
    def kind(self) -> str:
        if not self.number.startswith("+"):
            return "shortcode"
        return "tollfree" if self.number.startswith(_TOLL_FREE) else "longcode"

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "record_type": "messaging_settings",
            "id": self.id,
            "phone_number": self.number,
            "country_code": "US",
            "type": self.kind,
            "messaging_profile_id": self.profile,
            "messaging_product": self.product,
            "traffic_type": "A2P",
            "features": {"sms": _TWO_WAY},
            "tags": self.tags,
            "organization_id": ORGANIZATION_ID,
            "created_at": iso(self.created_us),
            "updated_at": iso(self.updated_us or self.created_us),
        }
        if not self.is_mobile:
            row["features"] = {"sms": _TWO_WAY, "mms": _TWO_WAY}
            row["eligible_messaging_products"] = ["A2P", "P2P"]
            row["health"] = {
                "message_count": 100,
                "inbound_outbound_ratio": 0.1,
                "success_ratio": 0.98,
                "spam_ratio": 0.0,
            }
        return {**row, **self.settings}


@dataclass(slots=True)
class BulkOrder:
    """A bulk assignment: what is pending becomes a success after a moment, or so many at each look; unknown ones fail."""

    id: str
    profile: str
    numbers: list[str]
    done_at_s: float
    settled: int = 0


class Numbers:
    """The account's numbers; a sender that was used becomes one of them."""

    def __init__(
        self,
        numbers: Iterable[str],
        mobile: Iterable[str],
        profiles: Mapping[str, str],
        *,
        now_us: int,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        refusals: Mapping[str, str] | None = None,
        bulk_step: int = 0,
    ) -> None:
        self._profiles = dict(profiles)
        self._settings = settings or {}
        self._refusals = refusals or {}
        self._bulk_step = bulk_step
        self._by_number: dict[str, Number] = {}
        self._orders: dict[str, BulkOrder] = {}
        self._pools: dict[str, list[str]] = {}
        for number in numbers:
            self._add(number, is_mobile=False, now_us=now_us)
        for number in mobile:
            self._add(number, is_mobile=True, now_us=now_us)

    def profile_of(self, sender: str, told: str | None, now_us: int) -> str:
        """The profile of ``sender``; ``told`` in a request assigns it, else it has one of its own."""
        number = self._by_number.get(sender)
        if number is None:
            if not sender.startswith("+") and not sender.isdigit():
                return told or profile_of_number(sender)
            number = self._add(sender, is_mobile=False, now_us=now_us)
        if told is not None:
            number.profile = told
        elif number.profile is None:
            number.profile = profile_of_number(sender)
        return number.profile

    def pool_sender(self, profile: str, to: str) -> str:
        """The number that a pool picks: always the same one for one recipient.

        A profile without numbers of its own gets three at its first use, so that its STOPs touch no other sender.
        """
        if profile not in self._pools:
            own = [n.number for n in self._by_number.values() if n.profile == profile and n.kind != "shortcode"]
            self._pools[profile] = own or [self._next_pool_number(profile) for _ in range(POOL_SIZE)]
        choice = self._pools[profile]
        return choice[int.from_bytes(hashlib.sha256(to.encode()).digest()[:4], "big") % len(choice)]

    def get(self, name: str, *, is_mobile: bool = False) -> Number:
        """By number or id.

        Raises:
            Refusal: 10005, there is no such number; or the code that this one was told to refuse with.
        """
        found = self._by_number.get(name) or next((n for n in self._by_number.values() if n.id == name), None)
        if found is None or found.is_mobile != is_mobile:
            raise Refusal("10005", "The requested number does not exist.")
        if found.refusal is not None:
            raise Refusal(found.refusal, "The sandbox was told to refuse this.")
        return found

    def rows(self, *, is_mobile: bool = False) -> list[Number]:
        return [number for number in self._by_number.values() if number.is_mobile == is_mobile]

    def order(self, profile: str, numbers: list[str], *, done_at_s: float) -> BulkOrder:
        order = BulkOrder(str(uuid.uuid4()), profile, numbers, done_at_s)
        self._orders[order.id] = order
        return order

    def order_row(self, order_id: str, *, now_s: float) -> dict[str, Any]:
        order = self._orders.get(order_id)
        if order is None:
            raise Refusal("10005", "The requested order does not exist.")
        row: dict[str, Any] = {"record_type": "messaging_numbers_bulk_update", "order_id": order.id}
        self._settle(order, now_s)
        looked_at = order.numbers[: order.settled]
        success = [number for number in looked_at if self._is_assignable(number)]
        failed = [number for number in looked_at if not self._is_assignable(number)]
        return {**row, "success": success, "failed": failed, "pending": order.numbers[order.settled :]}

    def _settle(self, order: BulkOrder, now_s: float) -> None:
        """Let the order come further: in steps, one a look, so that a test needs no clock; else whole, when it is time."""
        before = order.settled
        if self._bulk_step:
            order.settled = min(len(order.numbers), before + self._bulk_step)
        elif now_s >= order.done_at_s:
            order.settled = len(order.numbers)
        for number in order.numbers[before : order.settled]:
            if self._is_assignable(number):
                self._by_number[number].profile = order.profile or None

    def _is_assignable(self, number: str) -> bool:
        known = self._by_number.get(number)
        return known is not None and known.refusal is None and not known.is_mobile

    def _next_pool_number(self, profile: str) -> str:
        number = f"+1773555{len(self._by_number) % 10_000:04d}"
        self._add(number, is_mobile=False, now_us=0).profile = profile
        return number

    def _add(self, number: str, *, is_mobile: bool, now_us: int) -> Number:
        added = Number(
            number,
            is_mobile,
            now_us,
            self._profiles.get(number),
            settings=self._settings.get(number, {}),
            refusal=self._refusals.get(number),
        )
        self._by_number[number] = added
        return added

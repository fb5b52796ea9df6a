"""Messaging profiles: what their owner set in the portal, as far as sending depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.sandbox.messages import ORGANIZATION_ID, iso
from worker.sandbox.numbers import Numbers
from worker.sandbox.refusals import Refusal


class Profiles:
    """The profiles of ``given``; where none is given, any id is one, and those that a number is on are listed."""

    def __init__(self, given: Mapping[str, Mapping[str, Any]], numbers: Numbers, *, created_us: int) -> None:
        self._given = given
        self._numbers = numbers
        self._created_us = created_us

    def rows(self) -> list[dict[str, Any]]:
        used = {number.profile for number in self._numbers.rows() if number.profile}
        return [self._row(name) for name in self._given or sorted(used)]

    def get(self, name: str) -> dict[str, Any]:
        """Raises Refusal 10005, there is no such profile."""
        if self._given and name not in self._given:
            raise Refusal("10005", "The requested messaging profile does not exist.")
        return self._row(name)

    def _row(self, name: str) -> dict[str, Any]:
        return {
            "record_type": "messaging_profile",
            "id": name,
            "name": f"sandbox {name[:8]}",
            "enabled": True,
            "webhook_url": None,
            "webhook_failover_url": None,
            "webhook_api_version": "2",
            "whitelisted_destinations": ["*"],
            "number_pool_settings": {"long_code_weight": 1, "toll_free_weight": 1, "skip_unhealthy": False},
            "daily_spend_limit_enabled": False,
            "daily_spend_limit": None,
            "alpha_sender": None,
            "organization_id": ORGANIZATION_ID,
            "created_at": iso(self._created_us),
            "updated_at": iso(self._created_us),
            **self._given.get(name, {}),
        }

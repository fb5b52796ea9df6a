"""What commands on a running service start with: settings of role ``cli``, and the ledger behind REDIS_URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger
    from producers.notifier import Notifier
    from worker.settings import Settings

ANSWER_S = 5.0  # a person waits longer than a process may


def cli_settings() -> Settings:
    from worker.settings import load_settings

    return load_settings("cli")


def open_ledger(settings: Settings | None = None) -> Ledger:
    from producers.ledger.connection import connect
    from producers.ledger.ledger import Ledger

    settings = settings or cli_settings()
    return Ledger(connect(settings.redis_url, answer_s=ANSWER_S), settings.namespace)


def open_notifier(settings: Settings) -> Notifier:
    from producers.notifier import Notifier

    return Notifier(settings.redis_url, client=settings.client, namespace=settings.namespace)

"""What commands on a running service start with: settings of role ``cli``, and the ledger behind REDIS_URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producers.ledger.ledger import Ledger
    from producers.notifier import Notifier
    from worker.settings import Settings
    from worker.telnyx.account import Account

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


def open_account(settings: Settings) -> Account:
    """Telnyx's account. Raises Failure where no key is set, which other commands do without."""
    from worker.telnyx.account import Account
    from worker.terminal import Exit, Failure

    if not settings.telnyx_api_key:
        raise Failure("TELNYX_API_KEY is missing: set it to the API key of the Telnyx portal", Exit.USAGE)
    return Account(settings.telnyx_api_key, settings.telnyx_base_url)

"""Post a letter to an app: one signed request, and one word for what came of it. Runs on the worker's event loop.

The URL comes from whoever may enqueue, so it may name anything that this machine can reach. Invariants, each with a test
named after it:

- No connection is made to an address that is not public, unless that is allowed: checked on the address of the very
  connection, after DNS, so no name can change its mind in between. Redirects are not followed, proxies not asked.
- Every request is signed as Standard Webhooks has it, under the id of its event.
- An answer is never read beyond a few bytes, and a silent one ends the request.
"""

from __future__ import annotations

import base64
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from producers.ledger.callbacks import IN_FLIGHT, TO_ONE_ENDPOINT, Outcome
from worker.callbacks.letters import Letter

if TYPE_CHECKING:
    import aiohttp

TOTAL_S, CONNECT_S = 15.0, 5.0
READ_MOST = 4096  # of an answer, so that its connection can be used again
AFTER_MOST_S = 3600

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # counts as global, and leads to any IPv4 address
_6TO4 = ipaddress.ip_network("2002::/16")


class PrivateAddress(Exception):
    """The name leads to an address that is not public. No OSError: that would count as a connection that failed."""


@dataclass(frozen=True, slots=True)
class Posted:
    """``why`` is a word of [a-z0-9_]; ``after_s`` what the app asked to wait."""

    outcome: Outcome
    why: str = ""
    after_s: int = 0


def is_public(address: str) -> bool:
    """Whether anybody on the internet could reach ``address`` too."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64 or ip in _6TO4:
            return False
    return ip.is_global and not ip.is_multicast


def refuse_private(address_info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
    """The socket for a connection to this address.

    Raises:
        PrivateAddress: it is none that a stranger may have us call.
    """
    family, kind, protocol, _, address = address_info
    if not is_public(str(address[0])):
        raise PrivateAddress
    return socket.socket(family=family, type=kind, proto=protocol)


def signing_secret(secret: str) -> str:
    """NOTIFY_SECRET in the form that libraries of Standard Webhooks take."""
    return "whsec_" + base64.b64encode(secret.encode()).decode()


class Post:
    """Made, used and closed on the event loop.

    Args:
        secret: NOTIFY_SECRET.
        allow_private: ``[callbacks] allow_private``.
        now: The time that is signed; in UTC.
    """

    def __init__(
        self, secret: str, *, allow_private: bool, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        import aiohttp
        from standardwebhooks import Webhook

        self._webhook = Webhook(signing_secret(secret))
        self._now = now
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=IN_FLIGHT,
                limit_per_host=TO_ONE_ENDPOINT,
                socket_factory=None if allow_private else refuse_private,
            ),
            timeout=aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S),
            headers={"Content-Type": "application/json", "User-Agent": "notification-worker"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # what is not read need not be unpacked
            trust_env=False,
        )

    async def send(self, letter: Letter) -> Posted:
        """Make one request of ``letter``. Whatever happens becomes a word; only a cancellation passes through."""
        import aiohttp

        try:
            async with self._session.post(
                letter.url, data=letter.body, headers=self._signed(letter), allow_redirects=False
            ) as answer:
                posted = _judged(answer)
                if await answer.content.read(READ_MOST) and not answer.content.at_eof():
                    answer.close()
                return posted
        except PrivateAddress:
            return Posted("refused", "private_address")
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError):
            return Posted("refused", "url")
        except TimeoutError:
            return Posted("failed", "timeout")
        except aiohttp.ClientConnectorCertificateError:
            return Posted("failed", "certificate")
        except aiohttp.ClientConnectorDNSError:
            return Posted("failed", "dns")
        except (aiohttp.ClientConnectorError, aiohttp.ClientSSLError):
            return Posted("failed", "connect")
        except (aiohttp.ClientError, OSError):
            return Posted("failed", "cut")

    async def close(self) -> None:
        await self._session.close()

    def _signed(self, letter: Letter) -> dict[str, str]:
        now = self._now()  # in UTC: the library takes any time for such
        return {
            "webhook-id": letter.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._webhook.sign(letter.id, now, letter.body.decode()),
        }


def _judged(answer: aiohttp.ClientResponse) -> Posted:
    if 200 <= answer.status < 300:
        return Posted("told")
    if answer.status == 410:
        return Posted("gone", "http_410")
    after = answer.headers.get("Retry-After", "")
    wait_s = min(int(after), AFTER_MOST_S) if after.isascii() and after.isdigit() and len(after) < 10 else 0
    return Posted("failed", f"http_{answer.status}", wait_s)

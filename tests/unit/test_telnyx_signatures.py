from __future__ import annotations

import base64

import pytest
from nacl.signing import SigningKey

from worker.telnyx.signatures import BadSignature, Verifier, decode_key

NOW_S = 1_795_000_000.0
KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))
RAW = b'{"data": {"event_type": "message.sent"}}'


def signed(raw: bytes = RAW, *, at_s: float = NOW_S, key: SigningKey = KEY) -> tuple[str, str]:
    timestamp = str(int(at_s))
    signature = key.sign(timestamp.encode() + b"|" + raw).signature
    return base64.b64encode(signature).decode(), timestamp


@pytest.fixture
def verifier() -> Verifier:
    return Verifier([bytes(KEY.verify_key)])


def test_a_genuine_callback_passes(verifier: Verifier) -> None:
    verifier.verify(RAW, *signed(), NOW_S)


@pytest.mark.parametrize("age_s", [-300, 300])
def test_the_tolerance_holds_both_ways(verifier: Verifier, age_s: int) -> None:
    signature, timestamp = signed()
    verifier.verify(RAW, signature, timestamp, NOW_S + age_s)
    with pytest.raises(BadSignature, match="stale"):
        verifier.verify(RAW, signature, timestamp, NOW_S + age_s * 1.01)


def test_any_key_of_a_rotation_passes() -> None:
    verifier = Verifier([bytes(OTHER.verify_key), bytes(KEY.verify_key)])
    verifier.verify(RAW, *signed(), NOW_S)
    verifier.verify(RAW, *signed(key=OTHER), NOW_S)


def test_another_key_is_a_mismatch(verifier: Verifier) -> None:
    with pytest.raises(BadSignature, match="mismatch"):
        verifier.verify(RAW, *signed(key=OTHER), NOW_S)


def test_a_changed_body_is_a_mismatch(verifier: Verifier) -> None:
    with pytest.raises(BadSignature, match="mismatch"):
        verifier.verify(RAW + b" ", *signed(), NOW_S)


def test_a_changed_timestamp_is_a_mismatch(verifier: Verifier) -> None:
    signature, timestamp = signed()
    with pytest.raises(BadSignature, match="mismatch"):
        verifier.verify(RAW, signature, str(int(timestamp) + 1), NOW_S)


@pytest.mark.parametrize("absent", [None, ""])
def test_a_missing_header_is_named(verifier: Verifier, absent: str | None) -> None:
    signature, timestamp = signed()
    with pytest.raises(BadSignature, match="missing_signature"):
        verifier.verify(RAW, absent, timestamp, NOW_S)
    with pytest.raises(BadSignature, match="missing_timestamp"):
        verifier.verify(RAW, signature, absent, NOW_S)


@pytest.mark.parametrize(
    ("signature", "timestamp"),
    [
        ("not base64!", None),
        ("ä", None),
        ("AAAA", None),
        (None, "soon"),
        (None, "-5"),
        (None, "٣"),
        (None, "1e9"),
        (None, " 1"),
    ],
)
def test_nonsense_is_malformed(verifier: Verifier, signature: str | None, timestamp: str | None) -> None:
    good_signature, good_timestamp = signed()
    with pytest.raises(BadSignature) as caught:
        verifier.verify(RAW, signature or good_signature, timestamp or good_timestamp, NOW_S)
    assert caught.value.reason == "malformed"


def test_a_key_from_the_portal_is_decoded() -> None:
    assert decode_key(base64.b64encode(bytes(KEY.verify_key)).decode() + "\n") == bytes(KEY.verify_key)


@pytest.mark.parametrize(("text", "says"), [("???", "not base64"), ("AAAA", "has 3 bytes, must have 32")])
def test_a_wrong_key_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        decode_key(text)


def test_no_key_verifies_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Verifier([])

"""Texts as they go over the air: what ``count`` says is what it takes, and nothing is lost on the way."""

import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.content.parts import _BASIC, decode, encode, split
from worker.content.segments import ASCII7, GSM7, GSM7_EXTENDED, LIMITS, count

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

ALPHABETS = (sorted(GSM7), sorted(GSM7_EXTENDED), sorted(ASCII7), [*"aç€👍語é\u200d\ufe0f", "🇪", "👩", "\u0301"])
texts = st.one_of(
    *(st.text(alphabet=alphabet, max_size=400) for alphabet in ALPHABETS),
    st.text(max_size=200).map(lambda text: "".join(c for c in text if not 0xD800 <= ord(c) <= 0xDFFF)),
)
examples = [
    "",
    "€" * 153,
    "a" * 152 + "€" + "b" * 200,
    "ç" * 66 + "👍" * 40,
    "[" * 161,
    "👩\u200d👩\u200d👧" * 20,
    "ç" * 671,
]


def fits(size: int, limits: tuple[int, int], parts: int) -> bool:
    return size <= limits[0 if parts == 1 else 1]


@unhurried
@given(texts, st.booleans())
@example("a" * 152 + "€" + "b" * 200, False)
@example("ç" * 66 + "👍" * 40, False)
@example("[" * 161, True)
def test_encode_and_decode_give_the_text_back_in_as_many_parts_as_are_counted(text: str, short_code: bool) -> None:
    counted = count(text, short_code=short_code)
    encoding, parts = encode(text, short_code=short_code)
    assert (encoding, len(parts)) == (counted.encoding, counted.parts)
    assert decode(encoding, parts) == text  # each part alone: no pair straddles two
    width = 2 if encoding == "UCS-2" else 1
    assert sum(len(part) // width for part in parts) == counted.units
    assert all(fits(len(part) // width, LIMITS[encoding], len(parts)) for part in parts)
    assert encoding == "UCS-2" or all(septet < 128 for part in parts for septet in part)


@unhurried
@given(texts, st.booleans())
@example("€" * 153, False)
def test_each_part_but_the_last_is_full(text: str, short_code: bool) -> None:
    encoding, parts = encode(text, short_code=short_code)
    texts = split(text, short_code=short_code)
    width = 2 if encoding == "UCS-2" else 1
    for part, following in zip(parts, texts[1:], strict=False):
        next_size = len(following[0].encode("utf-16-be")) // 2 if width == 2 else 1 + (following[0] in GSM7_EXTENDED)
        if encoding == "ASCII-7":
            next_size = 1
        assert len(part) // width + next_size > LIMITS[encoding][1]


@unhurried
@given(texts, texts, st.booleans())
@example("€" * 80, "ç", False)
@example("a" * 160, "a", True)
def test_a_longer_text_never_takes_fewer_parts(text: str, more: str, short_code: bool) -> None:
    assert len(split(text + more, short_code=short_code)) >= len(split(text, short_code=short_code))


@pytest.mark.parametrize("text", examples)
@pytest.mark.parametrize("short_code", [False, True])
def test_the_parts_of_a_text_are_the_text(text: str, *, short_code: bool) -> None:
    assert "".join(split(text, short_code=short_code)) == text


def test_the_codes_are_those_of_the_standard() -> None:
    assert len(_BASIC) == 128 == len(set(_BASIC))
    for code, character in ((0x00, "@"), (0x02, "$"), (0x0A, "\n"), (0x11, "_"), (0x20, " "), (0x40, "¡"), (0x7F, "à")):
        assert encode(character) == ("GSM-7", [bytes([code])])
    for character in string.ascii_letters + string.digits:
        assert encode(character) == ("GSM-7", [character.encode("ascii")])
    assert encode("€{") == ("GSM-7", [b"\x1b\x65\x1b\x28"])


@pytest.mark.parametrize("part", [b"\x1b", b"a\x1b", b"\x10", b"\x1b\x00"])
def test_what_is_in_no_alphabet_is_no_text(part: bytes) -> None:
    with pytest.raises(ValueError, match="GSM-7"):
        decode("GSM-7", [part])

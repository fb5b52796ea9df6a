"""Segments, by Telnyx's rules."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from worker.content.segments import ASCII7, FORCING_SHOWN, GSM7, GSM7_BASIC, GSM7_EXTENDED, Segments, count

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug

gsm_texts = st.text(alphabet=sorted(GSM7), max_size=700)
texts = st.one_of(gsm_texts, st.text(alphabet=[*sorted(GSM7), "ç", "👍", "語"], max_size=400), st.text(max_size=200))


def split(text: str, *, wide: set[str], alone: int, each: int) -> list[str]:
    """The plainest way: fill a segment until the next character does not fit."""
    if sum(2 if c in wide else 1 for c in text) <= alone:
        return [text] if text else []
    segments, used = [""], 0
    for character in text:
        size = 2 if character in wide else 1
        if used + size > each:
            segments.append("")
            used = 0
        segments[-1] += character
        used += size
    return segments


@pytest.mark.parametrize(
    ("text", "parts", "units"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("a" * 160, 1, 160),
        ("a" * 161, 2, 161),
        ("a" * 306, 2, 306),
        ("a" * 307, 3, 307),
        ("a" * 1530, 10, 1530),
        ("a" * 1531, 11, 1531),
        ("€" * 80, 1, 160),
        ("a" + "€" * 80, 2, 161),
        ("€" * 153, 3, 306),  # 76 pairs a segment: the 153rd septet of each stays empty
        ("£¥èéùìòØøÅåÆæßÉ¡ÄÖÑÜ§¿äöñüà\n\r @$_", 1, 33),
    ],
)
def test_gsm7_counts_160_alone_and_153_in_each_of_several(text: str, parts: int, units: int) -> None:
    assert count(text) == Segments("GSM-7", parts, units)


@pytest.mark.parametrize(
    ("text", "parts", "units"),
    [
        ("ç" * 70, 1, 70),
        ("ç" * 71, 2, 71),
        ("ç" * 134, 2, 134),
        ("ç" * 135, 3, 135),
        ("ç" * 670, 10, 670),
        ("👍" * 35, 1, 70),
        ("👍" * 67, 3, 134),  # 33 pairs a segment: the 67th unit of each stays empty
    ],
)
def test_ucs2_counts_70_alone_and_67_in_each_of_several(text: str, parts: int, units: int) -> None:
    counted = count(text)
    assert (counted.encoding, counted.parts, counted.units) == ("UCS-2", parts, units)


def test_the_alphabet_is_telnyx_s_and_not_that_of_3gpp() -> None:
    assert set("~^|\\{}[]€") == GSM7_EXTENDED
    assert not GSM7_BASIC & GSM7_EXTENDED
    assert GSM7 & set("`çÇΔΦΓΛΩΠΨΣΘΞ\f\t“”’–") == set()
    assert len(GSM7_BASIC) == 95 - 1 - 8 + 27 + 2  # printable ASCII, no backtick, no pairs; letters; line ends


def test_the_characters_that_force_ucs2_are_named_once_in_order() -> None:
    assert count("Ça va, ça ’x’ \t 👍").forces_ucs2 == ("Ç U+00C7", "ç U+00E7", "’ U+2019", "U+0009", "👍 U+1F44D")
    assert count("Hello").forces_ucs2 == ()
    assert len(count("".join(map(chr, range(0x4E00, 0x4F00)))).forces_ucs2) == FORCING_SHOWN


def test_a_short_code_speaks_ascii_where_others_speak_gsm7() -> None:
    assert count("~`[a]\t", short_code=True) == Segments("ASCII-7", 1, 6)
    assert count("[" * 160, short_code=True).parts == 1
    assert count("[" * 161, short_code=True).parts == 2
    assert count("é", short_code=True) == Segments("UCS-2", 1, 1, ("é U+00E9",))


@unhurried
@given(texts, st.booleans())
@example("a" * 152 + "€" + "a" * 10, False)
@example("ç" * 66 + "👍" + "ç" * 10, False)
def test_a_pair_never_straddles_two_segments(text: str, short_code: bool) -> None:
    counted = count(text, short_code=short_code)
    if counted.encoding == "UCS-2":
        pieces = split(text, wide={c for c in text if ord(c) > 0xFFFF}, alone=70, each=67)
        assert set(text) - (ASCII7 if short_code else GSM7)
    else:
        pieces = split(text, wide=set() if short_code else set(GSM7_EXTENDED), alone=160, each=153)
    assert counted.parts == len(pieces)
    assert "".join(pieces) == text


@unhurried
@given(texts, texts, st.booleans())
@example("€" * 80, "ç", False)
def test_a_longer_text_never_costs_fewer_segments(text: str, more: str, short_code: bool) -> None:
    assert count(text + more, short_code=short_code).parts >= count(text, short_code=short_code).parts


@unhurried
@given(texts)
def test_units_are_what_the_encoding_says(text: str) -> None:
    counted = count(text)
    if counted.encoding == "UCS-2":
        assert counted.units == len(text.encode("utf-16-le", "surrogatepass")) // 2
    else:
        assert counted.units == sum(2 if c in GSM7_EXTENDED else 1 for c in text)

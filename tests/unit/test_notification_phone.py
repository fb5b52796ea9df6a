"""One spelling for one person."""

import phonenumbers
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from producers import phone
from producers.phone import NotANumber, is_bsuid, normalise

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("+13125550100", "+13125550100"),
        (" +1 (312) 555-0100 ", "+13125550100"),
        ("+1.312.555.0100", "+13125550100"),
        ("+44 20 7946 0958", "+442079460958"),
        ("+39 06 1234 5678", "+390612345678"),  # Italy keeps its zero
        ("+49 151 12345678", "+4915112345678"),
        ("+44 (0)20 7946 0958", "+442079460958"),  # a trunk zero that people leave in
        ("+1\u2011312\u2011555\u20110100", "+13125550100"),  # non-breaking hyphens, as copied from a page
    ],
)
def test_every_spelling_becomes_e164(raw: str, written: str) -> None:
    assert normalise(raw) == written


@pytest.mark.parametrize(
    ("raw", "remedy"),
    [
        ("", "empty"),
        ("12345", "short code"),
        ("3125550100", "plus sign"),
        ("(312) 555-0100", "plus sign"),
        ("hello", "international form"),
        ("call +13125550100", "international form"),
        ("+1 800 FLOWERS", "international form"),
        ("+13125550100;ext=5", "international form"),
        ("+13125550100,+13125550101", "international form"),
        ("+1312555010", "too few"),
        ("+15550100", "too few"),  # seven digits: a local number, which nobody reaches from outside
        ("+131255501000", "too many"),
        ("+999123456789", "country"),
        ("+200000000000", "zeros"),
        ("+", "international form"),
        ("+\u0661\u0663\u0661\u0662\u0665\u0665\u0665\u0660\u0661\u0660\u0660", "international form"),
        ("+1312555010\n0", "international form"),
    ],
)
def test_what_is_no_number_is_refused_with_the_remedy(raw: str, remedy: str) -> None:
    with pytest.raises(NotANumber, match=remedy):
        normalise(raw)


def test_unassigned_area_codes_pass_for_the_list_of_them_is_always_old() -> None:
    assert normalise("+15555550100") == "+15555550100"


@unhurried
@given(st.from_regex(r"\+1[2-9][0-9]{9}", fullmatch=True))
def test_the_short_way_gives_what_phonenumbers_gives(raw: str) -> None:
    assert normalise(raw) == phone._parsed(raw)


@unhurried
@given(st.from_regex(r"\+[0-9 ().-]{5,18}", fullmatch=True))
@example("+200000000000")
@example("+20000000000")
def test_normalising_twice_changes_nothing_and_only_possible_numbers_pass(raw: str) -> None:
    try:
        written = normalise(raw)
    except NotANumber:
        return
    assert written[0] == "+" and written[1:].isdigit() and len(written) <= 18
    assert phonenumbers.is_possible_number(phonenumbers.parse(written, None))
    assert normalise(written) == written


def test_business_scoped_user_ids_are_told_apart() -> None:
    assert is_bsuid("US.13491208655302741918")
    for other in ("us.1349", "USA.1349", "US.", "US.13 49", "+13125550100", "US.1" + "0" * 128):
        assert not is_bsuid(other)

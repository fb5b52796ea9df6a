"""STOP, START and HELP, as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.compliance.keywords import HELP, START, STOP, match

DECORATIONS = st.sampled_from(["", " ", ".", "!", "!!!", '"', "  \n", "\u200b", "🛑", "❤️", "…", "\u00a0", "*"])


@pytest.mark.parametrize("word", sorted(STOP))
def test_every_stop_word_is_a_stop_in_any_case(word: str) -> None:
    assert match(word) == match(word.upper()) == match(word.title()) == "STOP"


@pytest.mark.parametrize("word", sorted(START))
def test_every_start_word_is_a_start_in_any_case(word: str) -> None:
    assert match(word) == match(word.upper()) == "START"


@pytest.mark.parametrize("word", sorted(HELP))
def test_every_help_word_is_a_help_in_any_case(word: str) -> None:
    assert match(word) == match(word.upper()) == "HELP"


@given(before=DECORATIONS, after=DECORATIONS, word=st.sampled_from(sorted(STOP | START | HELP)))
def test_blanks_punctuation_and_emoji_around_a_keyword_do_not_hide_it(before: str, after: str, word: str) -> None:
    assert match(before + word + after) == match(word)


@pytest.mark.parametrize(
    "text",
    [
        "Stop-All",
        "stop  all",
        "OPT-OUT",
        "opt_out",
        "ＳＴＯＰ",
        "st\u200bop",
        "Stop stop STOP",
        "stop?",
        "¿stop?",
        "STOP\r\n",
    ],
)
def test_a_stop_is_read_generously(text: str) -> None:
    assert match(text) == "STOP"


@pytest.mark.parametrize("text", ["start?", "START ?", "start start", "please start", "yes"])
def test_a_start_is_read_strictly(text: str) -> None:
    assert match(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "please stop the car",
        "stop all the presses",
        "I cancel",
        "don't stop",
        "",
        "  ",
        "🛑",
        "?",
        "end of story",
        "helpful",
    ],
)
def test_a_keyword_inside_a_sentence_is_none(text: str) -> None:
    assert match(text) is None


def test_a_long_message_is_no_keyword_however_often_it_says_stop() -> None:
    assert match("stop " * 1000) is None


@given(text=st.text(max_size=200))
def test_any_text_gets_an_answer(text: str) -> None:
    assert match(text) in {"STOP", "START", "HELP", None}


def test_keywords_of_a_profile_add_to_the_built_in_ones() -> None:
    more = {"STOP": ["Arrêt", "रोकें"], "START": ["oui"], "HELP": ["aide"]}
    assert match("ARRÊT !", profile_keywords=more) == "STOP"
    assert match("arre\u0302t", profile_keywords=more) == "STOP"
    assert match("रोकें", profile_keywords=more) == "STOP"
    assert match("Oui.", profile_keywords=more) == "START"
    assert match("aide", profile_keywords=more) == "HELP"
    assert match("stop", profile_keywords=more) == "STOP"
    assert match("aide") is None


def test_stop_wins_over_every_other_reading() -> None:
    assert match("stop", profile_keywords={"START": ["stop"], "HELP": ["stop"]}) == "STOP"
    assert match("start", profile_keywords={"STOP": ["start"]}) == "STOP"

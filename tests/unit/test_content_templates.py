"""Templates: what they take, and what they refuse."""

import pickle
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.content import templates
from worker.content.templates import RenderError, TemplateError, check, render, required_variables

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug


def test_variables_fill_the_template() -> None:
    assert render("Your code is {{ code }}", {"code": "123456"}) == "Your code is 123456"
    assert render("{{ n }} {{ f }} {{ b }}", {"n": 3, "f": 0.5, "b": True}) == "3 0.5 True"
    assert render("{% if late %}Late{% else %}On time{% endif %}", {"late": False}) == "On time"
    assert render("{{ name | upper }} {{ '%.2f' | format(price) }}", {"name": "al", "price": 3}) == "AL 3.00"


def test_markup_is_left_alone_because_a_text_is_no_html() -> None:
    assert render("{{ shop }} & co", {"shop": "<A&B>"}) == "<A&B> & co"


def test_a_value_is_never_read_as_a_template() -> None:
    assert render("{{ a }}", {"a": "{{ 7 * 7 }}"}) == "{{ 7 * 7 }}"


def test_required_are_all_variables_but_those_that_have_a_default() -> None:
    template = "{{ a }} {{ b | default('x') }} {% if c is defined %}{{ c }}{% endif %} {{ d if a else e }}"
    assert required_variables(template) == {"a", "d", "e"}
    assert templates.optional_variables(template) == {"b", "c"}
    assert set(templates.ordered_variables(template)) == {"a", "b", "c", "d", "e"}
    assert required_variables("{{ b | default('x') }} {{ b }}") == {"b"}
    assert required_variables("plain") == frozenset()


def test_variables_are_ordered_as_they_first_appear() -> None:
    assert templates.ordered_variables("{{ z }} {{ a }}{% if z %}{{ m | upper }}{% endif %} {{ a }}") == ("z", "a", "m")


def test_a_missing_variable_is_an_error_and_no_gap() -> None:
    with pytest.raises(RenderError) as caught:
        render("Hi {{ name }}", {})
    assert (caught.value.field, caught.value.value) == ("variables.name", "missing")
    with pytest.raises(RenderError):
        render("{% if a is defined %}{% endif %}{{ a }}", {})


@pytest.mark.parametrize(
    ("template", "line", "words"),
    [
        ("{{ a", 1, "syntax"),
        ("one\ntwo {{ a | nonsense }}", 2, "filters are"),
        ("\n\n{% for x in a %}{% endfor %}", 3, "For cannot be used"),
        ("{% set a = b ~ b %}", 1, "Assign"),
        ("{{ user.name }}", 1, "name_name"),
        ("{{ a['b'] }}", 1, "positions"),
        ("{{ range(10) }}", 1, "nothing can be called"),
        ("{{ a.upper() }}", 1, "called"),
        ("{% include 'x' %}", 1, "Include"),
        ("{{ 9 ** 9 ** 9 }}", 1, "Pow"),
        ("{{ self }}", 1, "Jinja's own"),
        ("{{ a | center(1000) }}", 1, "filters are"),
        ("x" * 4097, 1, "4,097 bytes"),
        ("é" * 2049, 1, "bytes"),
        ("{{" + "(" * 1500 + "a" + ")" * 1500 + "}}", 1, "deep"),
        ("{{ a" + "|d" * 1500 + " }}", 1, "deep"),
        ("{{ a" + " | upper" * 100 + " }}", 1, "deep"),
        ("{% if a %}" * 60 + "{% endif %}" * 60, 1, "deep"),
    ],
)
def test_a_wrong_template_is_named_by_its_line_and_remedy(template: str, line: int, words: str) -> None:
    with pytest.raises(TemplateError) as caught:
        check(template)
    assert caught.value.line == line
    assert words in caught.value.remedy
    with pytest.raises(TemplateError):
        required_variables(template)


@pytest.mark.parametrize("name", ["range", "lipsum", "cycler", "joiner", "namespace", "dict"])
def test_jinja_s_own_globals_are_only_names_of_variables(name: str) -> None:
    assert required_variables(f"{{{{ {name} }}}}") == {name}
    with pytest.raises(RenderError):
        render(f"{{{{ {name} }}}}", {})


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 1000000000 }}",
        "{{ a * 1000000000 }}",
        "{{ '%999999999d' | format(7) }}",
        "{{ '%*d' | format(999999999, 7) }}",
        "{{ '%999999999d' % 7 }}",
        "{{ a" + " | replace('a', 'aaaaaaaaaa')" * 100 + " }}",
        "{{ a" + " | replace('', 'aaaaaaaaaa')" * 100 + " }}",
        "{{ " + "a ~ " * 900 + "a }}",
        "{{ a" + " | urlencode" * 200 + " }}",
    ],
)
def test_nothing_blows_up(template: str) -> None:
    started = time.process_time()
    with pytest.raises((RenderError, TemplateError)):
        render(template, {"a": "a%" * 500})
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    "value", ["x" * 1001, 10**1001, 10**5000, None, [1], {"a": 1}, b"x"], ids=lambda value: type(value).__name__
)
def test_a_variable_is_a_short_single_value(value: object) -> None:
    with pytest.raises(RenderError) as caught:
        render("{{ a }}", {"a": value})
    assert caught.value.field == "variables.a"


def test_the_output_is_bounded() -> None:
    with pytest.raises(RenderError, match="characters"):
        render("{{ a }}" * 11, {"a": "x" * 1000})
    assert len(render("{{ a }}" * 10, {"a": "x" * 1000})) == 10_000


@pytest.mark.parametrize(
    "template", ["{{ a + 1 }}", "{{ a / 0 }}", "{{ 1 / 0 }}", "{{ a | abs }}", "{{ a < 1 }}", "{{ -a }}"]
)
def test_no_error_quotes_a_value(template: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(template, {"a": "secret-4711"})
    assert "4711" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_errors_survive_pickling() -> None:
    for error in (TemplateError(3, "write it"), RenderError("variables.a", "missing", "add it")):
        assert str(pickle.loads(pickle.dumps(error))) == str(error)


@unhurried
@given(st.text(max_size=60))
def test_any_text_is_rendered_or_refused_in_our_own_words(template: str) -> None:
    try:
        required = required_variables(template)
        render(template, dict.fromkeys(required, "x"))
    except (TemplateError, RenderError):
        pass


@unhurried
@given(
    st.dictionaries(st.sampled_from("abc"), st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.booleans()))
)
def test_plain_variables_come_out_as_str_writes_them(variables: dict[str, object]) -> None:
    template = "".join(f"{{{{ {name} }}}}" for name in variables)
    assert render(template, variables) == "".join(str(value) for value in variables.values())

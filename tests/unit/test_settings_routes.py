"""What ``sender``, ``routes`` and ``sticky`` of a job type must say; and what of it is warned of."""

from __future__ import annotations

import pytest

from worker.settings import SettingsError, parse_config, warnings

BASE = """
[limits]
account = "50/s"
account_mms = "15/s"
[senders.a]
channel = "long_code"
from = "+13125550001"
rate = "1/s"
[senders.b]
channel = "toll_free"
from = "+18885550001"
rate = "1/s"
[senders.brand]
channel = "alphanumeric"
from = "ACME"
messaging_profile_id = "abc85f64-5717-4562-b3fc-2c9600000000"
rate = "auto"
[senders.wa]
channel = "whatsapp"
from = "+13125550003"
rate = "1/s"
[senders.group]
channel = "group_mms"
from = "+13125550004"
rate = "1/s"
[job_types.others]
sender = "a"
fallback = [{ sender = "b", after = "60s" }, { sender = "brand", after = "60s" }]
[job_types.on_whatsapp]
sender = "wa"
[job_types.to_groups]
sender = "group"
"""


def problems_of(job: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse_config(f"{BASE}[job_types.j]\n{job}\n")
    return [str(problem) for problem in caught.value.problems]


def warnings_of(job: str) -> list[str]:
    return [line for line in warnings(parse_config(f"{BASE}[job_types.j]\n{job}\n")) if line.startswith("job_types.j")]


@pytest.mark.parametrize(
    ("job", "problem"),
    [
        ("", 'j.sender is missing: write sender = "alerts", or routes'),
        ('routes = [{ senders = ["aa"] }]\nsender = "a"', 'routes[0].senders names no sender, got "aa": did you mean `a`?'),
        ('routes = [{ senders = ["a", "a"] }]', "routes[0].senders names a twice"),
        ("routes = [{ senders = [] }]", "routes[0].senders must name senders"),
        ('routes = [{ senders = "a" }]', 'write senders = ["a", "b"], or with weights: senders = { a = 3, b = 1 }'),
        ("routes = [{ senders = {} }]", "routes[0].senders must name senders"),
        ("routes = [{ senders = { a = -1 } }]", "has a weight that is no whole number from 0 to 1000"),
        ("routes = [{ senders = { a = 0.5 } }]", "has a weight that is no whole number from 0 to 1000"),
        ("routes = [{ senders = { a = true } }]", "has a weight that is no whole number from 0 to 1000"),
        ("routes = [{ senders = { a = 0, b = 0 } }]", "lets nobody in: all weights are 0"),
        ('routes = [{ countries = ["US"] }]', "routes[0].senders is missing"),
        ('routes = [{ senders = ["a"], countries = ["usa"] }]', 'two capitals, got "usa": write "US"'),
        ('routes = [{ senders = ["a"], countries = ["UK"] }]', "is no country that has phone numbers of its own"),
        ('routes = [{ senders = ["a"], countries = [] }]', "routes[0].countries"),
        ('routes = [{ senders = ["a"], hours = "8-20" }]', "routes[0].hours must be a window of the day"),
        ('routes = [{ senders = ["a"], timezone = "Europe/Berlin" }]', "routes[0].timezone stands without hours"),
        ('routes = [{ senders = ["a"], hours = "08:00-20:00", timezone = "Berlin" }]', "must be a time zone of the IANA list"),
        ('routes = [{ senders = ["a"], wieght = 3 }]', "routes[0].wieght is not a known key"),
        ('sender = "a"\nsticky = true', "j.sticky stands without routes"),
        ('routes = [{ senders = ["a", "wa"] }]', "has a (long_code) beside wa (whatsapp), which take different messages"),
        ('routes = [{ senders = ["a"] }]\nsender = "group"', "has a (long_code) beside group (group_mms)"),
        (
            'routes = [{ senders = ["brand"] }]\nmedia_urls = ["https://example.com/a.png"]',
            "media_urls cannot go over channel alphanumeric",
        ),
    ],
)  # fmt: skip
def test_a_mistake_names_the_key_the_value_and_the_remedy(job: str, problem: str) -> None:
    assert any(problem in line for line in problems_of(job)), problems_of(job)


def test_a_mistake_in_one_route_hides_none_in_another() -> None:
    lines = problems_of('routes = [{ senders = ["x"] }, { senders = ["y"] }]\nsender = "z"')
    assert [line.split()[0] for line in lines] == [
        "job_types.j.sender", "job_types.j.routes[0].senders", "job_types.j.routes[1].senders",
    ]  # fmt: skip


def test_routes_are_read_with_their_weights() -> None:
    job = parse_config(
        f'{BASE}[job_types.j]\nsender = "brand"\nroutes = [{{ senders = ["b"] }}, {{ senders = {{ a = 3 }} }}]'
    )
    j = job.job_types["j"]
    assert [dict(route.senders) for route in j.routes] == [{"b": None}, {"a": 3}]
    assert j.candidates == ("b", "a", "brand")
    assert (j.sender, job.job_types["others"].candidates) == ("brand", ("a",))


@pytest.mark.parametrize(
    ("job", "warning"),
    [
        (
            'routes = [{ senders = ["a", "b"] }, { senders = ["b"], countries = ["US"] }]',
            "routes[1] is never used: routes[0]",
        ),
        ("routes = [{ senders = { a = 1, b = 0 } }]", "routes[0].senders.b has weight 0 and takes nobody"),
        (
            'routes = [{ senders = ["brand"], countries = ["US", "PR"] }]\nsender = "a"',
            "brand, an alphanumeric sender, which",
        ),
        ('routes = [{ senders = ["a"] }, { senders = ["b"] }]\nsticky = true', "sticky changes nothing"),
        ('routes = [{ senders = ["a"], countries = ["US"] }]', "has no sender for other countries: they end rejected"),
        ('routes = [{ senders = ["a"], hours = "08:00-20:00" }]', "leave hours in which nobody is taken"),
    ],
)
def test_what_helps_nobody_is_warned_of(job: str, warning: str) -> None:
    lines = warnings_of(job)
    assert len(lines) == 1 and warning in lines[0], lines


def test_a_country_that_another_job_type_routes_is_missed_where_this_one_has_none_for_it() -> None:
    other = '[job_types.k]\nsender = "a"\nroutes = [{ senders = ["b"], countries = ["CA"] }]\n'
    lines = warnings_of('routes = [{ senders = ["a"], countries = ["US"] }]\n' + other)
    assert any("routes have none for CA" in line for line in lines)


@pytest.mark.parametrize(
    "job",
    [
        'routes = [{ senders = ["a"], countries = ["US"] }]\nsender = "b"',
        'routes = [{ senders = ["a"], countries = ["US"] }, { senders = ["b"] }]',
        'routes = [{ senders = ["a"], hours = "08:00-20:00" }, { senders = ["b"], hours = "20:00-08:00" }]',
        'routes = [{ senders = ["a"] }, { senders = ["b"] }]',  # the second stands in while the first cannot send
        "routes = [{ senders = { a = 1, b = 0 } }]\nsticky = true",
    ],
)
def test_what_makes_sense_is_not_warned_of(job: str) -> None:
    assert warnings_of(job) == []

"""README says what the code does: neither can grow alone."""

from __future__ import annotations

import re
from pathlib import Path

from worker.doctor import OWN_BYTES, SHARED_BYTES
from worker.settings import NOT_YET, settings_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_table_of_settings_is_the_codes_own() -> None:
    section = README.split("## Settings")[1].split("## Run it")[0]
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.+?) \| (.+) \|$", section, re.MULTILINE)
    assert rows == list(settings_table())


def test_what_is_checked_but_not_acted_on_is_named() -> None:
    lines = re.findall(r"^What this version checks.*$", README, re.MULTILINE)
    assert re.findall(r"`([a-z_]+)`", "".join(lines)) == list(NOT_YET)


def test_every_linked_page_exists() -> None:
    for page in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / page).exists(), page


def test_the_measured_bytes_are_those_of_the_benchmarks() -> None:
    (own, shared) = re.findall(r"about\s+(\d+) bytes with its own text of 100 characters, (\d+) where", README)[0]
    assert (int(own), int(shared)) == (OWN_BYTES, SHARED_BYTES)
    figures = (ROOT / "benchmarks" / "README.md").read_text()
    assert f"| own text of 100 characters, one notification each | {own} |" in figures
    assert f"| shared by the recipients of one notification | {shared} |" in figures

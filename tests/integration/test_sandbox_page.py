"""The sandbox's live page in a real browser."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from worker.sandbox import RunningSandbox, SandboxOptions, running_sandbox

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DEADLINE_MS = 30_000

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="SKIPPED: no Chromium on this machine"),
]


@pytest.fixture
def telnyx() -> Iterator[RunningSandbox]:
    with running_sandbox(SandboxOptions(sent_delay_s=0, final_delay_s=0)) as running:
        yield running


@pytest.fixture
def page(telnyx: RunningSandbox) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.set_default_timeout(DEADLINE_MS)
        expect.set_options(timeout=DEADLINE_MS)
        page.goto(telnyx.url)
        yield page
        browser.close()


def send(telnyx: RunningSandbox, text: str, ref: str, **fields: Any) -> None:
    body = {"from": "+13125550001", "to": "+13125550100", "text": text, **fields}
    body["webhook_url"] = f"http://127.0.0.1:1/hook?ref={ref}"
    httpx.post(f"{telnyx.base_url}/messages", json=body, headers={"authorization": "Bearer key"}).raise_for_status()


def test_the_page_shows_messages_as_text_and_turns_red_when_somebody_is_texted_twice(
    telnyx: RunningSandbox, page: Page
) -> None:
    expect(page.locator("#twice")).to_contain_text("Nobody was texted twice")
    send(telnyx, "<img src=x onerror=document.title='broken'> hello", "r1")
    expect(page.locator("#messages")).to_contain_text("<img src=x onerror=document.title='broken'> hello")
    expect(page.locator("#messages img")).to_have_count(0)
    expect(page).to_have_title("Sandbox")
    send(telnyx, "hello again", "r1")
    expect(page.locator("#twice.bad")).to_contain_text("1 message was texted twice")
    expect(page.locator("#twice.bad")).to_contain_text("r1")


def test_a_fault_switched_on_the_page_works_at_once(telnyx: RunningSandbox, page: Page) -> None:
    page.get_by_label("Down").check()
    expect(page.locator(".fault.on")).to_contain_text("Down")
    assert httpx.get(f"{telnyx.url}/sandbox/faults").json()["down"] is True
    page.get_by_label("Cut after accepting").fill("2")
    page.get_by_label("Cut after accepting").blur()
    expect(page.locator("#fault-note")).to_contain_text("cut_after_accept must be a number from 0 to 1")


def test_a_person_can_text_back_from_the_page(telnyx: RunningSandbox, page: Page) -> None:
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#inbound-note")).to_contain_text("STOP acted")
    expect(page.locator("#tiles")).to_contain_text("1people opted out")

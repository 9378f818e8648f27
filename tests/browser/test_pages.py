"""A person with a real browser: signs in, reads the plan, approves it, and sees what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import async_playwright, expect

from tests.e2e.stack import ADA_TOKEN, ROOT, Remediator
from tests.support.ports import free_port
from tests.support.processes import program
from tests.support.waiting import eventually

RECORDING = ROOT / "remediator/recordings/brainstem-cache-hit-rate-low.json"
pytestmark = pytest.mark.timeout(180)


async def test_a_plan_is_read_and_approved_in_a_browser(tmp_path: Path) -> None:
    """Nothing is shown before signing in; then the figures are there, and one click permits exactly this plan."""
    closed = f"http://127.0.0.1:{free_port()}"
    service = Remediator(
        tmp_path / "service",
        rules=ROOT / "rules",
        prometheus=closed,
        alertmanager=closed,
        env={"REMEDIATOR_RECORDING": str(RECORDING)},
    )
    with service:

        async def waits() -> str:
            found = await service.remediations()
            return str(found[0]["id"]) if found and found[0]["phase"] == "awaiting_approval" else ""

        id_ = await eventually(waits, within=60, what="a plan that waits")
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=program("chromium", package="chromium"), args=["--no-sandbox"]
            )
            page = await browser.new_page()
            await page.goto(f"{service.url}/remediations/{id_}")
            await expect(page.get_by_text("UNLINK")).to_have_count(0)
            await page.get_by_label("token").fill(ADA_TOKEN)
            await page.get_by_role("button", name="Sign in").click()

            await expect(page.get_by_text("UNLINK 12,340 keys under seg:").first).to_be_visible()
            await page.get_by_role("button", name="Approve this plan").click()

            await expect(page.get_by_role("button", name="Approve this plan")).to_have_count(0)
            await browser.close()
        told = [entry["kind"] for entry in service.journal() if entry["remediation"] == id_]
        assert ["vote", "approved"] == [kind for kind in told if kind in ("vote", "approved")]
        assert "outcome" in told

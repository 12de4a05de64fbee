"""The documentation as a site: prices as they are billed, every page listed, no broken link, nothing fetched from elsewhere."""

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from billing.tiers import Tier, tier_terms
from deploy.docs.pages import DOCS, ELSEWHERE, led, listed
from deploy.docs.pricing import pricing
from tests.conftest import ROOT

_MKDOCS = ROOT / ".venv-docs" / "bin" / "mkdocs"


def test_the_pricing_page_says_what_the_price_list_says() -> None:
    page = pricing()
    assert "$2,500<small> / month + $0.01 per request" in page
    assert "$2,500 + 36,450 × $0.01 = $2,500 + $364.50 = $2,864.50" in page
    for tier, terms in tier_terms().items():
        assert f"### {tier.value.capitalize()}" in page
        assert f"{terms.per_minute:,} requests a minute" in page
    assert tier_terms()[Tier.ENTERPRISE].per_month is None
    assert "unlimited requests a month" in page


def test_a_price_that_is_only_announced_is_said_to_be_announced() -> None:
    assert "Announced" not in pricing()
    assert "from 2025-01-01 (UTC): free $0, pro $500, enterprise $2,500 + $0.01 per request" in pricing(
        datetime(2024, 6, 1, tzinfo=UTC)
    )


def test_every_page_is_listed_once() -> None:
    pages = sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))
    entries = [entry for section in listed([*pages, *ELSEWHERE, "index.md", "pricing.md"]) for entry in section.values()]
    found = [page for entry in entries for page in (entry if isinstance(entry, list) else [entry])]
    assert sorted(found) == sorted([*pages, *ELSEWHERE, "index.md", "pricing.md"])


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        ("API.md", "[x](../client/README.md#errors)", "[x](client.md#errors)"),
        ("decisions/0002-customers-is-a-view.md", "[x](../../client/README.md)", "[x](../client.md)"),
        ("client.md", "[x](../docs/ERRORS.md)", "[x](ERRORS.md)"),
        ("client.md", "[x](vlaapi_client/errors.py)", '[x](#){ .code-only title="client/vlaapi_client/errors.py" }'),
        ("API.md", "[x](ERRORS.md#codes) [y](https://example.com/a)", "[x](ERRORS.md#codes) [y](https://example.com/a)"),
        ("API.md", "[x](../nothing.md)", "[x](../nothing.md)"),
    ],
)
def test_links_lead_to_the_page_on_the_site(page: str, link: str, expected: str) -> None:
    assert led(link, page) == expected


@pytest.mark.skipif(not _MKDOCS.exists(), reason="`make docs` makes the environment that builds the site")
def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    argv = [str(_MKDOCS), "build", "-q", "-f", str(ROOT / "deploy/docs/mkdocs.yml"), "--site-dir", str(tmp_path)]
    done = subprocess.run(argv, env={"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    assert "$2,864.50" in (tmp_path / "pricing" / "index.html").read_text()
    loaded = re.compile(r'<(?:script|img|link|iframe)[^>]+(?:src|href)="?(https?://[^"\s>]+)')
    for page in tmp_path.rglob("*.html"):
        assert loaded.findall(page.read_text()) == []

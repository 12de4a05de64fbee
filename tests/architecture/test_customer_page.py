"""The customers' reference is what the code says: nothing missing, nothing invented."""

from control_plane.errors import ERRORS
from control_plane.protocols.openapi import document
from tests.architecture import customer_page
from tests.architecture.source_files import ROOT

NOW = "run `python -m tests.architecture.customer_page` (or `make golden`) and look at the difference"


def test_every_error_is_explained_as_the_table_has_it() -> None:
    """docs/ERRORS.md is written by hand; its statuses and robot actions are not its own."""
    written = {code: row[:3] for code, row in customer_page.error_rows().items()}
    table = {
        kind.code: (str(kind.status), "yes" if kind.is_retryable else "no", kind.robot_action.value) for kind in ERRORS.values()
    }
    assert written == table


def test_the_reference_is_written_from_the_document() -> None:
    assert customer_page.PAGE.read_text() == customer_page.page(), NOW


def test_it_has_every_address_every_field_and_every_error() -> None:
    page, told = customer_page.PAGE.read_text(), document()
    for name, operation in customer_page.operations(told):
        assert f"### {name}\n" in page
        assert all(f"\n- {status}: " in page for status in operation["responses"])
    for code in ERRORS:
        assert page.count(f'<a id="{code}"></a>') == 1
    for field in told["components"]["schemas"]["InferenceAnswer"]["properties"]:
        assert f"`{field}`" in page


def test_the_pages_that_customers_are_sent_to_exist_and_lead_on() -> None:
    for name in ("VLA-API-README.md", "BEGINNERS_API_GUIDE.md"):
        assert f"(docs/{name})" in (ROOT / "README.md").read_text()

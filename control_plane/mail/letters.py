"""The texts of e-mails: a Jinja2 file each for text and HTML in `letters/`, filled in once, when the mail goes into the outbox.

The first line of a text is its subject. HTML is escaped; an unknown name in a template is an error, not an empty place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

_SUBJECT = "Subject: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Letterhead:
    """What letters say about the service, and whom they call when there is something to do."""

    public_url: str
    docs_url: str
    operator_email: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A filled-in letter."""

    subject: str
    text: str
    html: str


def letterhead_of(*, public_url: str, docs_url: str | None, operator_email: str | None) -> Letterhead:
    """Without documentation of its own, the service's description of itself is linked."""
    url = public_url.rstrip("/")
    return Letterhead(public_url=url, docs_url=docs_url or f"{url}/openapi.json", operator_email=operator_email)


def write_letter(name: str, letterhead: Letterhead, values: Mapping[str, Any]) -> Letter:
    """The letter `letters/<name>.txt` and `.html`."""
    known = {"service": letterhead, **values}
    first, _, text = _environment().get_template(f"{name}.txt").render(known).partition("\n")
    if not first.startswith(_SUBJECT):
        raise ValueError(f"{name}.txt does not begin with its subject")
    html = _environment().get_template(f"{name}.html").render(known | {"subject": first.removeprefix(_SUBJECT)})
    return Letter(subject=first.removeprefix(_SUBJECT), text=text.strip() + "\n", html=html)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).with_name("letters")),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

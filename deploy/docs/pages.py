"""Which pages the site has besides `docs/*.md`, where each is listed, and where links between them lead. Knows no MkDocs."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

# Pages that are written where they belong and shown here too.
ELSEWHERE: Mapping[str, Path] = {
    "client.md": ROOT / "client" / "README.md",
    "examples.md": ROOT / "examples" / "README.md",
    "model-card.md": ROOT / "model_repository" / "tabletop" / "MODEL_CARD.md",
}
_REST = "Operate"  # every page that is in no other section
SECTIONS: Mapping[str, tuple[str, ...]] = {
    "Use it": (
        *("BEGINNERS_API_GUIDE.md", "VLA-API-README.md", "client.md", "examples.md"),
        *("API.md", "ERRORS.md", "PROTOCOLS.md", "SELF_SERVICE.md"),
    ),
    "Motion": ("SAFETY.md", "CALIBRATION.md", "POLICIES.md", "TABLETOP.md", "model-card.md"),
    "Export": ("EXPORT.md", "TENSORRT.md", "OPENVLA.md", "OPENVLA_OFT.md", "LEROBOT.md"),
    "Money": ("KEYS_AND_LIMITS.md", "USAGE.md", "BILLING.md", "REVENUE.md"),
    _REST: (),
    "Runbooks": (),
    "Decisions": ("LOG.md",),
}
_FOLDERS = {"runbooks": "Runbooks", "decisions": "Decisions"}
_LINK = re.compile(r"\]\((?P<to>[^)#\s:]+)(?P<anchor>#[^)]*)?\)")


def listed(pages: Sequence[str]) -> list[dict[str, str | list[str]]]:
    """The navigation: the front page and the prices first, then the sections. Every page is in it once."""
    sections = {name: [page for page in wanted if page in pages] for name, wanted in SECTIONS.items()}
    known = {page for wanted in SECTIONS.values() for page in wanted} | {"index.md", "pricing.md"}
    for page in pages:
        if page not in known:
            sections[_FOLDERS.get(page.partition("/")[0], _REST)].append(page)
    rest: list[dict[str, str | list[str]]] = [{name: found} for name, found in sections.items() if found]
    return [{"Home": "index.md"}, {"Pricing": "pricing.md"}, *rest]


def led(markdown: str, page: str) -> str:
    """Links to pages that are shown here lead to them; links into the code become plain names. `page` is its name on the site."""
    source = ELSEWHERE.get(page, DOCS / page)
    return _LINK.sub(lambda found: _led(found, source, "../" * page.count("/")), markdown)


def _led(found: re.Match[str], source: Path, up: str) -> str:
    target, anchor = (source.parent / found["to"]).resolve(), found["anchor"] or ""
    for name, path in ELSEWHERE.items():
        if target == path:
            return f"]({up}{name}{anchor})"
    if not target.exists():
        return found.group()  # MkDocs says that it is wrong
    if target.is_relative_to(DOCS):
        return f"]({target.relative_to(DOCS)}{anchor})" if source in ELSEWHERE.values() else found.group()
    return f'](#){{ .code-only title="{target.relative_to(ROOT)}" }}'

"""What MkDocs calls while it builds this site: it gets the pages that are made or lie elsewhere, the navigation, and led links.

Loaded by its path from mkdocs.yml, in an environment of its own.
"""

import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # MkDocs knows nothing of our packages

from deploy.docs.pages import ELSEWHERE, led, listed
from deploy.docs.pricing import pricing


def on_files(files: Files, /, *, config: MkDocsConfig) -> Files:
    """Adds the pages that no file of `docs/` is, and lists everything."""
    here = Path(__file__).parent
    copied = {"index.md": here / "front.md", "site.css": here / "site.css", **ELSEWHERE}
    made = {"pricing.md": pricing()} | {name: path.read_text(encoding="utf-8") for name, path in copied.items()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    config.nav = listed(sorted(file.src_uri for file in files if file.src_uri.endswith(".md")))
    return files


def on_page_markdown(markdown: str, /, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 -- MkDocs' signature
    """Before it becomes HTML."""
    return led(markdown, page.file.src_uri)

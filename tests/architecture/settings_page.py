"""Writes docs/SETTINGS.md and .env.example from the settings themselves; `make golden` calls it and a test compares.

Knows both sets of names: the control plane's and those of the one-command stack.
"""

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from control_plane.settings import PREFIX, Settings
from deploy.embedded.settings import ROOT, EmbeddedSettings

DOCS, EXAMPLE = ROOT / "docs" / "SETTINGS.md", ROOT / ".env.example"

_INTRO = """# Settings

Everything an operator can set, as environment variables. Written from `control_plane/settings.py` and
`deploy/embedded/settings.py` by `make golden`; a test compares. A wrong or unknown `VLA_*` name stops start-up, and all faults
are listed at once. With `make up` nothing needs to be set: it makes the required ones itself and keeps them in `.vlaapi/`.

"""


def default_of(field: FieldInfo) -> str:
    """What counts when nothing is set."""
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return ""
    return str(field.default).replace(f"{ROOT}/", "")


def table(kind: type[Settings] | type[EmbeddedSettings], *, without: frozenset[str] = frozenset()) -> str:
    """A Markdown table of the settings in their order."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {default_of(field)} | {field.description} |"
        for name, field in kind.model_fields.items()
        if name not in without
    ]
    return "\n".join(["| name | default | meaning |", "|---|---|---|", *rows, ""])


def docs() -> str:
    """The whole of docs/SETTINGS.md."""
    shared = frozenset(Settings.model_fields)
    return (
        f"{_INTRO}## Control plane: API processes, worker, commands\n\n{table(Settings)}\n"
        f"## The one-command stack\n\n{table(EmbeddedSettings, without=shared)}"
    )


def example() -> str:
    """The whole of .env.example: required names are open, the others commented with their defaults."""
    lines = ["# Settings of the control plane; docs/SETTINGS.md explains them. `make up` needs none of these.", ""]
    for name, field in Settings.model_fields.items():
        is_required = field.default is PydanticUndefined
        value = "" if is_required or field.annotation is SecretStr else default_of(field)
        lines += [f"# {field.description}", f"{'' if is_required else '# '}{PREFIX}{name.upper()}={value}"]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    DOCS.write_text(docs())
    EXAMPLE.write_text(example())

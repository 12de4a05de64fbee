"""Writes the second half of docs/VLA-API-README.md from the OpenAPI document, the error table, prices and settings.

`make golden` calls it and a test compares. The first half, and what to do about each error (docs/ERRORS.md), are written by hand.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from billing.tiers import tier_terms, trial_limits
from control_plane.errors import ERRORS
from control_plane.protocols.openapi import document
from control_plane.settings import Settings
from tests.architecture.source_files import ROOT

PAGE = ROOT / "docs" / "VLA-API-README.md"
MARK = "<!-- From here on written by `make golden` (python -m tests.architecture.customer_page). -->\n"
METHODS = ("get", "put", "post", "patch", "delete")
OPERATORS = "/admin/"
_BOUNDS = ("max_body_bytes", "max_image_pixels", "body_timeout_s", "default_deadline_ms")
_ERROR_ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (\w+) \| (\w+) \| (.*?) \| (.*?) ?\|$", re.M)

Json = dict[str, Any]


def page() -> str:
    """The whole page, its hand-written half as it is."""
    return PAGE.read_text().partition(MARK)[0] + MARK + "\n" + "\n".join(_generated())


def _generated() -> Iterator[str]:
    told = document()
    yield from _limits()
    yield from _addresses(told)
    for name, operation in operations(told):
        yield from _operation(name, operation)
    yield from _objects(told["components"]["schemas"], _reached(told))
    yield from _headers(told)
    yield from _errors()


def operations(told: Json) -> list[tuple[str, Json]]:
    """Those of customers by method and address, in the document's order; operators' have a page of their own."""
    return [
        (f"{method.upper()} {path}", methods[method])
        for path, methods in told["paths"].items()
        for method in METHODS
        if method in methods and not path.startswith(OPERATORS)
    ]


def error_rows() -> dict[str, tuple[str, ...]]:
    """By code: status, retry, robot, meaning and what to do, as docs/ERRORS.md has them."""
    return {row[0]: row[1:] for row in _ERROR_ROW.findall((ROOT / "docs" / "ERRORS.md").read_text())}


def _limits() -> Iterator[str]:
    yield "## Limits\n\n| tier | per minute | per day (UTC) | per month (UTC) | at once |\n|---|---|---|---|---|"
    for tier, terms in tier_terms().items():
        month = "unlimited" if terms.per_month is None else f"{terms.per_month:,}"
        yield f"| {tier.value} | {terms.per_minute:,} | {terms.per_day:,} | {month} | {terms.concurrency} |"
    trial = trial_limits()
    yield f"| test keys of any tier | {trial.per_minute:,} | {trial.per_day:,} | {trial.per_month:,} | {trial.concurrency} |"
    yield "\nAn operator may have set others for you; `usage` and the headers say what is left.\n"
    yield "| of one request, unless the operator says otherwise | |\n|---|---|"
    for name in _BOUNDS:
        field = Settings.model_fields[name]
        yield f"| {field.description} | {field.default:,} ({name.rpartition('_')[2]}) |"
    yield ""


def _addresses(told: Json) -> Iterator[str]:
    yield "## Addresses\n\n| address | what for | key |\n|---|---|---|"
    for name, operation in operations(told):
        yield f"| [`{name}`](#{_anchor(name)}) | {operation['summary']} | {'yes' if operation.get('security') else 'no'} |"
    yield ""


def _operation(name: str, operation: Json) -> Iterator[str]:
    yield f"### {name}\n\n{operation['summary'].rstrip('.')}. {operation.get('description', '')}".rstrip() + "\n"
    for one in operation.get("parameters", ()):
        needed = ", required" if one.get("required") else ""
        yield f"- `{one['name']}` in the {one['in']}{needed}: {_type(one['schema'])}. {_words(one)}".rstrip()
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"- body as `{media_type}`: {_type(content['schema'])}"
    for status, response in operation["responses"].items():
        codes = sorted({code for content in response.get("content", {}).values() for code in content.get("examples", ())})
        bodies = {_type(content["schema"]) for content in response.get("content", {}).values()}
        named = ", ".join(f"[`{code}`](#{code})" for code in codes if code in ERRORS)
        yield f"- {status}: {named or ', '.join(sorted(bodies)) or _words(response)}"
    yield ""


def _reached(told: Json) -> set[str]:
    """The objects that those operations name, and what these name in turn."""
    reached: set[str] = set()
    open_ends = [json.dumps(operation) for _, operation in operations(told)]
    while open_ends:
        named = set(re.findall(r'"#/components/schemas/([^"]+)"', open_ends.pop())) - reached
        reached |= named
        open_ends += [json.dumps(told["components"]["schemas"][name]) for name in named]
    return reached


def _objects(schemas: Json, reached: set[str]) -> Iterator[str]:
    yield "## Objects\n\nA field in **bold** is always there, or must be sent.\n"
    for name, schema in schemas.items():
        if name not in reached:
            continue
        yield f"### {name}\n"
        if _words(schema):
            yield f"{_words(schema)}\n"
        fields = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
        if not fields:
            yield f"{_type(schema)}\n"
            continue
        yield "| field | type | |\n|---|---|---|"
        for field, kind in fields.items():
            shown = f"**`{field}`**" if field in schema.get("required", ()) else f"`{field}`"
            yield f"| {shown} | {_type(kind)} | {_words(kind)}{_range(kind)} |"
        yield ""


def _headers(told: Json) -> Iterator[str]:
    yield "## Headers of answers\n\n| header | |\n|---|---|"
    found = {
        name: header.get("description", "")
        for _, operation in operations(told)
        for response in operation["responses"].values()
        for name, header in response.get("headers", {}).items()
    }
    for name, words in sorted(found.items()):
        yield f"| `{name}` | {words} |"
    yield ""


def _errors() -> Iterator[str]:
    yield "## Errors\n\nThe body is [Error](#error). `retry`: whether the same request can succeed later.\n"
    yield "| code | status | retry | robot | meaning | what to do |\n|---|---|---|---|---|---|"
    written = error_rows()
    for kind in ERRORS.values():
        retry, robot = "yes" if kind.is_retryable else "no", kind.robot_action.value
        cells = [str(kind.status), retry, robot, *written[kind.code][3:]]
        yield f'| <a id="{kind.code}"></a>`{kind.code}` | ' + " | ".join(cells) + " |"


def _type(schema: Json) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(dict.fromkeys(_type(one) for one in schema.get("anyOf") or schema["oneOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    kinds = schema.get("type", "anything")
    return " or ".join(_kind(kind, schema) for kind in (kinds if isinstance(kinds, list) else [kinds]))


def _kind(kind: str, schema: Json) -> str:
    if kind == "array":
        items = schema.get("items") or schema.get("prefixItems") or {}
        return f"list of {_type(items)}" if isinstance(items, dict) and items else "list"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"map of {_type(schema['additionalProperties'])}"
    return "bytes" if schema.get("format") == "binary" else str(kind)


def _range(schema: Json) -> str:
    named = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<", "maxLength": "length ≤"}
    bounds = [f"{sign} {schema[name]:,}" for name, sign in named.items() if name in schema]
    return f" {', '.join(bounds)}" if bounds else ""


def _words(told: Json) -> str:
    return " ".join(str(told.get("description", "")).split()).replace("|", "\\|")


def _anchor(heading: str) -> str:
    """As GitHub makes them."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page())

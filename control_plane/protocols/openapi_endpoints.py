"""OpenAPI of `Endpoint`s, made from the same signatures that the doors read: the operators' document, and customers' own part.

Knows no running service; `openapi.py` joins the customers' part with the hand-written rest.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from control_plane.endpoints.endpoint import Document, Endpoint, Shape
from control_plane.errors import ERRORS
from control_plane.identity.principal import Principal
from control_plane.operators.roles import Viewer, role_of
from control_plane.protocols.openapi_errors import (
    COMMON_HEADERS,
    IDEMPOTENCY_CODES,
    REF,
    Json,
    error_schema,
    errors,
    with_idempotency,
)

_OPERATOR_CODES = (
    *("missing_key", "malformed_key", "unknown_key", "revoked_key", "expired_key", "operator_role"),
    *("minute_limit", "store_unavailable", "internal_error"),
)
_CUSTOMER_CODES = (
    *(kind.code for kind in ERRORS.values() if kind.type == "authentication" and kind.code != "operator_role"),
    *("minute_limit", "store_unavailable", "internal_error"),
)
_OPEN_CODES = ("minute_limit", "store_unavailable", "internal_error")
_BODY_CODES = (
    *("invalid_body", "body_timeout", "body_too_large", "unsupported_media_type"),
    *("missing_field", "unknown_field", "invalid_field"),
)
_QUERY_CODES = ("invalid_field", "unknown_field")
_PLACES = re.compile(r"\{(\w+)\}")


def operator_document(endpoints: Sequence[Endpoint]) -> Json:
    """The description at `/admin/v1/openapi.json`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vlaapi for operators",
            "version": "1",
            "description": "Customers, keys, requests, deliveries and the audit log. docs/OPERATOR_API.md has the whole story.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": with_idempotency(paths_of(endpoints, security="operator")),
        "components": {
            "schemas": dict(sorted({**schemas_of(endpoints), "Error": error_schema()}.items())),
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer", "description": "`Bearer vla_admin_…`; no customer's key."}
            },
        },
    }


def paths_of(endpoints: Iterable[Endpoint], *, security: str) -> dict[str, Json]:
    """The operations by address and method."""
    paths: dict[str, Json] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, endpoint.shape, security)
    return paths


def schemas_of(endpoints: Iterable[Endpoint]) -> dict[str, Json]:
    """The schemas that the operations refer to."""
    named = list(endpoints)
    schemas = _components(named)[1]
    for query in (endpoint.shape.query for endpoint in named):
        if query is not None:  # its fields are parameters; what they refer to (enumerations) is a schema
            (ref,), parts = msgspec.json.schema_components([query], ref_template=REF + "{name}")
            schemas |= {name: part for name, part in parts.items() if REF + name != ref["$ref"]}
    return schemas


def _components(endpoints: Iterable[Endpoint]) -> tuple[dict[Any, Json], dict[str, Json]]:
    shapes = [endpoint.shape for endpoint in endpoints]
    types = [kind for shape in shapes for kind in (shape.body, shape.answer) if kind not in (None, Document)]
    refs, components = msgspec.json.schema_components(types, ref_template=REF + "{name}")
    return dict(zip(types, refs, strict=True)), components


def _operation(endpoint: Endpoint, shape: Shape, security: str) -> Json:
    operation: Json = {"operationId": endpoint.name, "summary": endpoint.summary}
    if shape.by is not None and shape.by is not type(None):
        operation["security"] = [{security: []}]
    if isinstance(shape.by, type) and issubclass(shape.by, Viewer):
        operation["description"] = f"For operators of the role {role_of(shape.by).value} or above."
    parameters = [*_places(endpoint.path), *_query(shape)]
    if parameters:
        operation["parameters"] = parameters
    if shape.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(endpoint, shape.body, endpoint.body_example)}
    operation["responses"] = {str(endpoint.status): _answer(endpoint, shape), **errors(_codes(endpoint, shape))}
    return operation


def _codes(endpoint: Endpoint, shape: Shape) -> list[str]:
    by_caller: tuple[str, ...] = _OPEN_CODES
    if shape.by is Principal:
        by_caller = _CUSTOMER_CODES
    elif isinstance(shape.by, type) and issubclass(shape.by, Viewer):
        by_caller = _OPERATOR_CODES
    looked_up = ("not_found",) if _PLACES.search(endpoint.path) else ()
    body, query = (_BODY_CODES if shape.body else ()), (_QUERY_CODES if shape.query else ())
    once = IDEMPOTENCY_CODES if endpoint.method == "POST" else ()
    return list(dict.fromkeys((*by_caller, *body, *query, *looked_up, *once, *endpoint.errors)))


def _places(path: str) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _PLACES.findall(path)]


def _query(shape: Shape) -> list[Json]:
    if shape.query is None:
        return []
    (ref,), components = msgspec.json.schema_components([shape.query], ref_template=REF + "{name}")
    schema = components[ref["$ref"].removeprefix(REF)]
    return [
        {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": field}
        for name, field in schema["properties"].items()
    ]


def _answer(endpoint: Endpoint, shape: Shape) -> Json:
    told: Json = {"description": endpoint.summary, "headers": COMMON_HEADERS}
    if shape.answer is Document:
        told["content"] = {endpoint.media_type: {"schema": {"type": "string", "format": "binary"}}}
    elif shape.answer is not None:
        told["content"] = _content(endpoint, shape.answer, endpoint.answer_example)
    return told


def _content(endpoint: Endpoint, kind: Any, example: Any) -> Json:
    refs, _ = _components([endpoint])
    content: Json = {"schema": refs[kind]}
    if example is not None:
        content["example"] = example
    return {"application/json": content}

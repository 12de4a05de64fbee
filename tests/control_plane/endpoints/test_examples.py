"""What the OpenAPI documents show as examples is what the doors would read and send."""

import msgspec
import pytest

from control_plane.endpoints.endpoint import Document, Endpoint
from control_plane.errors import ERRORS
from control_plane.protocols.openapi_endpoints import operator_document
from control_plane.protocols.operator_endpoints import OPERATOR_ENDPOINTS
from control_plane.protocols.own_endpoints import OWN_ENDPOINTS

ALL = (*OPERATOR_ENDPOINTS, *OWN_ENDPOINTS)


def name_of(endpoint: Endpoint) -> str:
    return endpoint.name


@pytest.mark.parametrize("endpoint", ALL, ids=name_of)
def test_examples_are_of_the_declared_types(endpoint: Endpoint) -> None:
    shape = endpoint.shape
    if shape.body is not None:
        msgspec.convert(endpoint.body_example, shape.body)
    if shape.answer is not None and shape.answer is not Document:
        msgspec.convert(endpoint.answer_example, shape.answer)
    assert set(endpoint.errors) <= set(ERRORS)


def test_every_reference_leads_somewhere() -> None:
    document = operator_document(OPERATOR_ENDPOINTS)
    references = {part.split('"')[0] for part in msgspec.json.encode(document).decode().split("#/components/schemas/")[1:]}
    assert references <= set(document["components"]["schemas"])

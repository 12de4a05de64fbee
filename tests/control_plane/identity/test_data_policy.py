"""The order of data policies: of customer, key and request the most restrictive one holds."""

from itertools import product
from uuid import uuid4

import pytest

from control_plane.errors import ApiError
from control_plane.identity.data_policy import DataPolicy, DataTerms, asked_policy, lowered, most_restrictive
from tests.control_plane.identity.test_record import a_record

ORDER = [DataPolicy.ZERO, DataPolicy.STANDARD, DataPolicy.DEBUG, DataPolicy.TRAIN]


@pytest.mark.parametrize(("held", "asked"), list(product(ORDER, ORDER)))
def test_a_request_may_take_away_and_never_add(held: DataPolicy, asked: DataPolicy) -> None:
    terms = DataTerms(policy=held, version=3, consent_id=uuid4(), keep_days=100)
    got = lowered(terms, asked)
    assert ORDER.index(got.policy) == min(ORDER.index(held), ORDER.index(asked))
    assert (got.version, got.consent_id) == (terms.version, terms.consent_id)
    assert got.keep_days <= terms.keep_days


def test_debug_under_a_train_policy_is_kept_no_longer_than_debug_is() -> None:
    terms = DataTerms(policy=DataPolicy.TRAIN, keep_days=365)
    assert lowered(terms, DataPolicy.DEBUG).keep_days == 7
    assert lowered(terms, DataPolicy.STANDARD).keep_days == 0


def test_a_key_keeps_less_than_its_customer_and_never_more() -> None:
    record = a_record(data_policy=DataPolicy.TRAIN, data_consent_id=uuid4(), key_data_policy=DataPolicy.ZERO)
    assert record.principal().is_zero_retention
    assert a_record(data_policy=DataPolicy.STANDARD, key_data_policy=DataPolicy.TRAIN).principal().data.policy == "standard"


def test_what_a_test_key_asks_is_never_trained_on() -> None:
    record = a_record(data_policy=DataPolicy.TRAIN, data_consent_id=uuid4(), is_test=True)
    assert record.principal().data.policy is DataPolicy.DEBUG


@pytest.mark.parametrize("text", ["", "none", "train, zero", "0", "zéro"])
def test_a_word_that_is_no_policy_is_refused_by_name(text: str) -> None:
    with pytest.raises(ApiError) as refused:
        asked_policy(text)
    assert (refused.value.kind.code, refused.value.param) == ("invalid_field", "X-Data-Policy")


def test_case_and_spaces_do_not_matter() -> None:
    assert asked_policy(" Zero ") is DataPolicy.ZERO
    assert most_restrictive(DataPolicy.TRAIN, None, DataPolicy.DEBUG) is DataPolicy.DEBUG

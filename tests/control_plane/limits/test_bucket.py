"""The bucket's arithmetic."""

from hypothesis import given
from hypothesis import strategies as st

from control_plane.limits.bucket import Bucket

LIMITS = st.integers(min_value=1, max_value=100_000)
LENGTHS_US = st.integers(min_value=1_000, max_value=86_400_000_000)


@st.composite
def buckets(draw: st.DrawFn) -> Bucket:
    """Any bucket that `limit` requests could have filled."""
    limit, length_us = draw(LIMITS), draw(LENGTHS_US)
    interval_us = Bucket(limit, length_us, 0).interval_us
    return Bucket(limit, length_us, draw(st.integers(min_value=0, max_value=limit * interval_us)))


@given(limit=LIMITS, length_us=LENGTHS_US)
def test_an_empty_bucket_takes_the_whole_limit(limit: int, length_us: int) -> None:
    bucket = Bucket(limit, length_us, 0)
    assert (bucket.remaining, bucket.grows_in_us, bucket.wait_us) == (limit, 0, 0)


@given(limit=LIMITS, length_us=LENGTHS_US)
def test_the_steady_rate_is_never_above_the_limit(limit: int, length_us: int) -> None:
    assert Bucket(limit, length_us, 0).interval_us * limit >= length_us


@given(buckets())
def test_waiting_as_told_gives_exactly_one_more(bucket: Bucket) -> None:
    later = Bucket(bucket.limit, bucket.length_us, bucket.level_us - bucket.grows_in_us)
    assert later.remaining == (bucket.limit if bucket.level_us == 0 else bucket.remaining + 1)


@given(buckets())
def test_a_microsecond_less_is_not_enough(bucket: Bucket) -> None:
    if bucket.grows_in_us:
        earlier = Bucket(bucket.limit, bucket.length_us, bucket.level_us - bucket.grows_in_us + 1)
        assert earlier.remaining == bucket.remaining


@given(buckets())
def test_one_request_takes_one(bucket: Bucket) -> None:
    if bucket.remaining:
        after = Bucket(bucket.limit, bucket.length_us, bucket.level_us + bucket.interval_us)
        assert after.remaining == bucket.remaining - 1


@given(buckets())
def test_there_is_a_wait_exactly_when_nothing_remains(bucket: Bucket) -> None:
    assert (bucket.wait_us > 0) == (bucket.remaining == 0)

"""Which requests are kept: every Nth session whole, and whatever is worth a look."""

import pytest

from control_plane.sampling import Rules, rules_of


def test_the_words_are_the_rules() -> None:
    assert rules_of("every=10 rejects score_below=0.5 entropy_above=0.8 feedback") == Rules(
        every=10, rejects=True, score_below=0.5, entropy_above=0.8, feedback=True
    )
    assert rules_of("rejects") == Rules(every=0, rejects=True)


@pytest.mark.parametrize(
    ("text", "named"),
    [("every", "every"), ("every=1.5", "every"), ("rejects=1", "rejects"), ("all", "all"), ("every=1 every=2", "every=2")],
)
def test_a_wrong_rule_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        rules_of(text)


def test_every_nth_session_is_one_in_n_and_the_same_everywhere() -> None:
    sessions = [f"session-{number}".encode() for number in range(4000)]
    picked = [session for session in sessions if Rules(every=10).picks(session)]
    assert 300 < len(picked) < 500
    assert picked == [session for session in sessions if Rules(every=10).picks(session)]
    assert not any(Rules(every=0).picks(session) for session in sessions)
    assert all(Rules(every=1).picks(session) for session in sessions)


def test_each_rule_keeps_what_it_says_and_nothing_else() -> None:
    rules = Rules(every=0, rejects=True, score_below=0.5, entropy_above=0.8)

    def kept(**about: object) -> tuple[str, ...]:
        usual = {"is_picked": False, "is_rejected": False, "score": 0.9, "entropy": 0.1}
        return rules.reasons(**{**usual, **about})  # type: ignore[arg-type]  # each test names its own

    assert kept() == ()
    assert kept(is_rejected=True, score=None) == ("reject",)
    assert kept(score=0.49) == ("score",)
    assert kept(entropy=0.81) == ("entropy",)
    assert kept(entropy=None, score=None) == ()
    assert kept(is_picked=True, is_rejected=True) == ("every", "reject")

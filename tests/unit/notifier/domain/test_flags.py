"""Every flag has its words, and good news is not told as bad news."""

from services.notifier.domain.flags import MEANINGS, STAGES, Kind, OwnReason, is_opportunity
from shared.messages import FlagReason


def test_every_flag_and_every_stage_has_its_words() -> None:
    assert set(MEANINGS) == {*FlagReason, *OwnReason}
    assert set(STAGES) == set(Kind)


def test_titles_are_told_apart_and_short() -> None:
    titles = [meaning.title for meaning in MEANINGS.values()]
    assert len(set(titles)) == len(titles)
    assert max(map(len, titles)) <= 30


def test_only_growth_is_an_opportunity() -> None:
    assert [reason for reason in FlagReason if is_opportunity(reason)] == [
        FlagReason.EXPANSION_READY,
        FlagReason.GOAL_REACHED,
    ]

"""The last look before a document is told: what may not be is left out, whoever has written it."""

from collections.abc import Sequence
from typing import Final

import msgspec

from services.scoring.domain import anonymity
from services.scoring.domain.insight_document import (
    Comparison,
    Document,
    GrowthPath,
    Insight,
    Rhythm,
    Size,
    TimeToValue,
    Week,
)
from services.scoring.domain.stories import stories_of

_NO_GROWTH: Final = GrowthPath(
    share=None, users_before=None, users_after=None, features_before=None, features_after=None
)


def told(document: Document) -> Document:
    """The document with its stories, without numbers that are more exact or of fewer than ours."""
    if document.k < anonymity.K:
        return msgspec.structs.replace(document, segments=[])
    kept = [_insight(one) for one in document.segments if _is_count(one.accounts)]
    return msgspec.structs.replace(
        document,
        segments=[msgspec.structs.replace(one, stories=stories_of(one)) for one in kept],
    )


def _insight(one: Insight) -> Insight:
    compared = _is_count(one.renewing) and _is_count(one.leaving)
    born = _is_count(one.newcomers)
    features = [use for use in one.features if born and _is_share(use.share)]
    names = {use.name for use in features}
    weeks = [
        Week(
            week=week.week,
            adopted=[use for use in week.adopted if use.name in names and _is_share(use.share)],
        )
        for week in one.by_week
    ]
    quartiles = one.size.quartiles
    to_value, growth = one.time_to_value, one.growth
    return Insight(
        segment=one.segment,
        accounts=one.accounts,
        size=Size(
            median_users=_value(one.size.median_users),
            quartiles=quartiles if quartiles and all(map(_is_value, quartiles)) else None,
        ),
        rhythm=Rhythm(
            days_per_week=_value(one.rhythm.days_per_week),
            hours_per_user_week=_value(one.rhythm.hours_per_user_week),
        ),
        newcomers=one.newcomers if born else None,
        features=features,
        by_week=[week for week in weeks if week.adopted],
        time_to_value=TimeToValue(
            to=to_value.to,
            median_days=_value(to_value.median_days) if born else None,
            share_in_30=to_value.share_in_30 if born and _is_share(to_value.share_in_30) else None,
        ),
        renewing=one.renewing if compared else None,
        leaving=one.leaving if compared else None,
        renewing_vs_leaving=_comparisons(one.renewing_vs_leaving) if compared else [],
        growth=_growth(growth) if _is_share(growth.share) else _NO_GROWTH,
    )


def _comparisons(found: Sequence[Comparison]) -> list[Comparison]:
    return [one for one in found if _is_value(one.renewing) and _is_value(one.leaving)]


def _growth(one: GrowthPath) -> GrowthPath:
    return GrowthPath(
        share=one.share,
        users_before=_value(one.users_before),
        users_after=_value(one.users_after),
        features_before=_value(one.features_before),
        features_after=_value(one.features_after),
    )


def _is_count(count: int | None) -> bool:
    return count is not None and count >= anonymity.K and count % anonymity.STEP == 0


def _is_share(share: float | None) -> bool:
    return share is not None and 0 < share < 1 and anonymity.share_on_grid(share) == share


def _is_value(value: float) -> bool:
    return anonymity.on_grid(value) == value


def _value(value: float | None) -> float | None:
    return value if value is not None and _is_value(value) else None

"""Scoring's answers about all accounts together: small, by hand, in the shapes of its API."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

AS_OF = "2026-06-01T11:59:30Z"
OWNERS = ("anna@vendor.example", "ben@vendor.example", "chloe@vendor.example")


def figures(
    start: int = 400,
    *,
    new: int = 12,
    lost: int = 8,
    due: int = 40,
    renewed: int = 31,
    pending: int = 5,
    currencies: tuple[str, ...] = ("EUR",),
    now: bool = False,
) -> dict[str, Any]:
    """Of one part; below ten accounts no rate."""
    decided = due - pending
    known = start >= 10
    churn = lost / start if known else None
    return {
        "accounts": {"start": start, "new": new, "lost": lost, "end": start + new - lost,
                     "trials": 7},
        "churn": {
            "rate": churn,
            "retention": None if churn is None else 1 - churn,
            "per_month": churn,
            "per_year": None if churn is None else 1 - (1 - churn) ** 12,
            "n": start,
        },
        "renewals": {"due": due, "renewed": renewed, "lost": decided - renewed,
                     "pending": pending, "rate": renewed / decided if decided >= 10 else None},
        "money": [_money(name, start // len(currencies), now=now) for name in currencies],
    }  # fmt: skip


def _money(currency: str, accounts: int, *, now: bool) -> dict[str, Any]:
    start = accounts * 310
    known = accounts >= 10
    return {
        "currency": currency,
        "mrr_start": f"{start}.00", "new": f"{start * 3 // 100}.00",
        "expansion": f"{start * 4 // 100}.00", "contraction": f"{start // 100}.00",
        "lost": f"{start * 2 // 100}.00", "mrr_end": f"{start * 104 // 100}.00",
        "grr": 0.97 if known else None, "nrr": 1.01 if known else None, "n": accounts,
        "renewals": {"due": "148800.00", "renewed": "115320.00", "lost": "14880.00",
                     "pending": "18600.00", "rate": 0.886 if known else None},
        "ltv": {"average": "9600.00", "months": 48.0, "of": "vendor", "n": accounts,
                "basis": "margin"},
        "value_at_risk": f"{accounts * 212}.00" if now else None,
        "ltv_at_risk": f"{accounts * 600}.00" if now else None,
        "value_basis": {"margin": accounts, "mrr": 0},
    }  # fmt: skip


PARTS: dict[str, list[str | None]] = {
    "owner": [*OWNERS, None],
    "segment": ["enterprise", "mid-market", "small", None],
    "sales": ["direct", "indirect"],
    "stage": ["LAND", "ADOPT", "EXPAND", "RENEW"],
}


def app() -> FastAPI:
    found = FastAPI()
    _add_portfolio(found)
    _add_rest(found)
    _add_state(found)
    return found


def _add_portfolio(found: FastAPI) -> None:
    @found.get("/v1/portfolio")
    async def portfolio(request: Request) -> JSONResponse:
        query = request.query_params
        now = query["to"] > "2026-06-01"
        sizes = (150, 140, 104, 6)
        parts = [
            {"key": key, "figures": figures(
                size, new=3, lost=2 + index, due=14, renewed=12 - 3 * index, pending=1, now=now)}
            for index, (key, size) in enumerate(
                zip(PARTS.get(query["by"], []), sizes, strict=False))
        ]  # fmt: skip
        return JSONResponse(
            {
                "from": query["from"], "to": query["to"], "as_of": AS_OF,
                "state": "provisional" if now else "final", "by": query["by"], "target": 0.9,
                "whole": figures(currencies=("EUR", "USD"), now=now), "parts": parts,
            }
        )  # fmt: skip

    @found.get("/v1/portfolio/months")
    async def months(months: int = 12) -> JSONResponse:
        said = []
        for back in range(months - 1, -1, -1):
            index = 2026 * 12 + 5 - back
            one = figures(400 - back, lost=5 + back % 4, due=30, renewed=26 - back % 5, pending=2)
            name = f"{index // 12}-{index % 12 + 1:02}"
            said.append({"month": name, "state": "final" if back else "provisional",
                         "figures": one})  # fmt: skip
        return JSONResponse({"months": said})

    @found.get("/v1/renewals")
    async def renewals(by: str = "whole") -> JSONResponse:
        def forecast(scale: int) -> list[dict[str, Any]]:
            return [
                {"days": days, "due": due * scale, "without_risk": 1, "expected_lost": 1.9 * scale,
                 "expected_rate": 0.86 if due * scale >= 10 else None,
                 "money": [{"currency": "EUR", "due": f"{due * scale * 3700}.00",
                            "expected_lost": f"{due * scale * 500}.00"}]}
                for days, due in ((30, 4), (90, 13), (180, 25))
            ]  # fmt: skip

        parts = [{"key": key, "forecast": forecast(1)} for key in PARTS.get(by, [])]
        return JSONResponse({"as_of": AS_OF, "horizons": [30, 90, 180], "whole": forecast(3),
                             "parts": parts})  # fmt: skip


def _add_rest(found: FastAPI) -> None:
    @found.get("/v1/accounts")
    async def accounts() -> JSONResponse:
        one = {
            "account_id": "acme",
            "name": "Acme <Ltd>",
            "owner": OWNERS[0],
            "risk": 0.31,
            "renewal_date": "2026-06-20",
            "band": "at_risk",
            "value_at_risk": {"amount": "4464.00", "currency": "EUR", "basis": "margin"},
        }
        return JSONResponse({"accounts": [one], "next_cursor": None})  # fmt: skip

    @found.get("/v1/journey")
    async def journey() -> JSONResponse:
        stages = (("TRIAL", 7, 9.0), ("LAND", 31, 22.0), ("ADOPT", 240, 310.0),
                  ("EXPAND", 24, 33.0), ("RENEW", 102, 61.0), ("LOST", 88, 400.0))  # fmt: skip
        return JSONResponse({"as_of": AS_OF, "stages": [
            {"stage": name, "accounts": n, "median_days": days, "entered_90": n // 3,
             "left_90": {"ADOPT": n // 5, "LOST": n // 20}}
            for name, n, days in stages
        ]})  # fmt: skip

    @found.get("/v1/facets")
    async def facets() -> JSONResponse:
        return JSONResponse({
            **{name: [{"value": key, "accounts": 100} for key in keys]
               for name, keys in PARTS.items()},
            "plan": [], "region": [], "reseller": [], "more": {},
        })  # fmt: skip

    @found.get("/v1/goals")
    async def goals(by: str = "whole") -> JSONResponse:
        def one(scale: int) -> dict[str, Any]:
            return {
                "accounts": 9 * scale, "goals": 12 * scale, "reached": 4 * scale,
                "on_track": 3 * scale, "behind": 2 * scale, "missed": 2 * scale,
                "no_values": scale, "mean_improvement": 0.043, "top_improvement": 0.151,
                "success_rate": 4 / 6,
            }  # fmt: skip

        parts = [{"key": key, "goals": one(1)} for key in PARTS.get(by, [])]
        return JSONResponse({"as_of": AS_OF, "whole": one(4), "parts": parts})


def _insight(segment: str | None, accounts: int) -> dict[str, Any]:
    features = (("reports", 0.85, 1), ("exports", 0.6, 2), ("api", 0.35, 4), ("alerts", 0.2, 8))
    return {
        "segment": segment, "accounts": accounts,
        "size": {"median_users": 8.0, "quartiles": [4.0, 15.0]},
        "rhythm": {"days_per_week": 3.5, "hours_per_user_week": 2.1},
        "newcomers": 60, "renewing": 180, "leaving": 25,
        "features": [{"name": name, "share": share, "first_week": week}
                     for name, share, week in features],
        "by_week": [
            {"week": week, "adopted": [{"name": name, "share": round(share * week / 12, 2)}
                                       for name, share, _ in features]}
            for week in (1, 2, 4, 8, 12)
        ],
        "time_to_value": {"to": "milestone", "median_days": 12.0, "share_in_30": 0.8},
        "renewing_vs_leaving": [
            {"indicator": "active_days_28", "what": "active days in 4 weeks", "renewing": 14.0,
             "leaving": 5.0},
            {"indicator": "stickiness", "what": "share of days on which a user comes",
             "renewing": 0.4, "leaving": 0.1},
        ],
        "growth": {"share": 0.15, "users_before": 6.0, "users_after": 12.0,
                   "features_before": 3.0, "features_after": 5.0},
        "stories": [{"title": "A typical team", "text": "Eight people, on three to four days a"
                     " week.", "figures": [{"what": "users", "value": 8.0}]}],
    }  # fmt: skip


def _unplaced(
    source: str,
    placed: int,
    *,
    late: int = 0,
    full: int = 0,
    waiting: int = 0,
    trouble: str | None = None,
) -> dict[str, Any]:
    """A source's events without an account; of a week ten times what they were in a day."""

    def fates(times: int) -> dict[str, Any]:
        found = {"only_account": placed, "group_call": 5, "last_activity": 2, "first_stated": 1}
        return {
            "placed": {way: number * times for way, number in found.items()},
            "began_to_wait": 3 * times,
            "late": late * times,
            "full": full * times,
            "erased": 0,
        }

    return {
        "source": source, "day": fates(1), "week": fates(10), "waiting": waiting,
        "waiting_over_an_hour": waiting, "waiting_since": AS_OF if waiting else None,
        "trouble": trouble,
    }  # fmt: skip


def _add_state(found: FastAPI) -> None:
    @found.get("/v1/insights")
    @found.get("/v1/insights/{month}")
    async def insights(month: str = "2026-05") -> JSONResponse:
        if month != "2026-05":
            return JSONResponse({"code": "unknown_month", "message": "none"}, 404)
        return JSONResponse({"month": month, "made_at": AS_OF, "k": 5, "months": ["2026-05"],
                             "basis": "A random 80% of the accounts.",
                             "segments": [_insight(None, 320),
                                          _insight("small", 120)]})  # fmt: skip

    @found.get("/v1/status")
    async def status() -> JSONResponse:
        return JSONResponse({
            "events_taken_in": 120_000, "accounts": 400, "dirty": 3, "backfill_settling": False,
            "bands": {}, "flags_open": 31, "flags": {}, "outbox": 0,
            "staleness": [{"source": "app", "why": "rate", "began_at": AS_OF}],
            "mass_flags": {"gone_silent": 41},
        })  # fmt: skip

    @found.get("/v1/sources/placing")
    async def placing() -> JSONResponse:
        return JSONResponse({"as_of": AS_OF, "sources": [
            _unplaced("lost", 12, late=30, full=1_400, waiting=7, trouble="mostly_lost"),
            _unplaced("guessed", 210, trouble="mostly_guessed"),
            _unplaced("well", 4_210),
            _unplaced("stranger", 1),
        ]})  # fmt: skip

    model = {
        "version": "own90-20260501", "kind": "own", "horizon_days": 90, "state": "active",
        "state_since": AS_OF, "why": "passed the gate", "created_at": AS_OF,
        "activated_at": AS_OF, "accounts": 400,
    }  # fmt: skip

    @found.get("/v1/models")
    async def models() -> JSONResponse:
        return JSONResponse({"models": [model, model | {"version": "prior-1", "kind": "prior",
                                                        "state": "retired"}]})  # fmt: skip

    @found.get("/v1/models/{version}")
    async def card(version: str) -> JSONResponse:
        months = [{"month": f"2026-{number:02}", "rows": 800, "expected": 30.0 + number,
                   "observed": 28 + number} for number in range(1, 5)]  # fmt: skip
        bins = [{"rows": 300, "predicted": number / 25, "observed": number / 24}
                for number in range(1, 11)]  # fmt: skip
        findings = {"psi_max": 0.11, "calibration_ratio": 1.04, "quarter_auc": 0.81,
                    "months": months, "alarms": []}  # fmt: skip
        return JSONResponse(model | {
            "version": version, "base_rate": 0.06, "label": "contracts",
            "report": {"served": {"rows": 3000, "base": 0.06, "auc": 0.83,
                                  "lift_at_10_percent": 3.9, "ece": 0.012},
                       "reliability": bins},
            "weights": [{"feature": "recency_days", "means": "days since the last active day",
                         "weight": 0.32, "effect": "more of it raises the risk"}],
            "health": [{"looked_at": AS_OF, "findings": findings}],
        })  # fmt: skip

    _add_rules(found)


def _add_rules(found: FastAPI) -> None:
    drop = {"enabled": True, "accounts": ["scored"], "for_days": 14, "trend_at_most": 0.5}

    @found.get("/v1/rules")
    async def rules() -> JSONResponse:
        band = {"times_base": 3.0, "at_most": 0.3}
        return JSONResponse({"digest": "a1b2c3d4e5f60718", "rules": {
            "bands": {"watch": band, "at_risk": band, "critical": band, "release_share": 0.67,
                      "release_after_days": 14},
            "usage_drop": drop, "gone_silent": drop | {"enabled": False},
            "storm_guard": {"share": 0.05}, "segments": {"enterprise": {}},
        }})  # fmt: skip

    @found.post("/v1/rules/preview")
    async def preview(request: Request) -> JSONResponse:
        if b"trend" not in await request.body():
            return JSONResponse({"code": "rules_refused", "message": "line 1: no such rule"}, 422)
        tally = {
            "raised_now": 12,
            "would_raise": 7,
            "would_wait": 3,
            "would_clear": 1,
            "would_clear_later": 0,
            "raised_examples": ["acme"],
            "cleared_examples": [],
        }
        return JSONResponse({"as_of": AS_OF, "accounts": 400, "flags": {"usage_drop": tally},
                             "storm": False})  # fmt: skip

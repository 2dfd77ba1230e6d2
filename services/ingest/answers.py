"""Replies that several wire formats share: each item's result, or why nothing was accepted."""

from collections import Counter
from collections.abc import Sequence

from services.ingest.replies import (
    SUCCESS,
    RefusalCode,
    Reply,
    error_reply,
    results_reply,
    some_rejected,
)
from services.ingest.results import Code, Decoded, Result

_MESSAGES = {
    RefusalCode.OVERLOADED: "too much waits for the log; send again",
    RefusalCode.LOG_UNAVAILABLE: "the log cannot be reached; send again",
    RefusalCode.NOT_DURABLE: "not known to be stored in time; send again with the same ids",
}


def answer_each(decoded: Decoded, request_id: str) -> Reply:
    """200 where anything is accepted; else what would have to change, the item or the log."""
    if decoded.has("accepted"):
        return results_reply(decoded.results)
    if decoded.has("retry"):
        return send_again(decoded.results, request_id, shown=decoded.results)
    return all_rejected(decoded.results, request_id, shown=decoded.results)


def answer_few_words(decoded: Decoded, request_id: str) -> Reply:
    """For libraries that look at the status alone: 200 only where every item is safe somewhere.

    What was rejected is in quarantine then, and listed for whoever reads the body. What quarantine
    had no room for is lost: their libraries report a 400, and do not send it for ever.
    """
    if decoded.has("retry") or not decoded.are_rejects_kept:
        return send_again(decoded.results, request_id)
    rejected = [result for result in decoded.results if result.status == "rejected"]
    if not rejected:
        return SUCCESS
    if len(rejected) == len(decoded.results):
        return all_rejected(decoded.results, request_id, shown=decoded.results)
    if decoded.has_dropped():
        return partial_failure(decoded.results, request_id)
    return some_rejected(len(decoded.results) - len(rejected), rejected)


def partial_failure(results: Sequence[Result], request_id: str) -> Reply:
    """400 although some items are accepted: callers would read nothing on success."""
    rejected = sum(result.status == "rejected" for result in results)
    message = f"{rejected} of {len(results)} were rejected; the others are accepted"
    return error_reply(RefusalCode.PARTIAL_FAILURE, message, request_id, results=results)


def send_again(
    results: Sequence[Result], request_id: str, *, shown: Sequence[Result] | None = None
) -> Reply:
    """503: what may succeed later; what is stored already counts once, however often it comes."""
    codes = Counter(result.code for result in results if result.status == "retry")
    code = RefusalCode.LOG_UNAVAILABLE
    if codes[Code.NOT_DURABLE]:
        code = RefusalCode.NOT_DURABLE
    elif codes[Code.OVERLOADED]:
        code = RefusalCode.OVERLOADED
    return error_reply(code, _MESSAGES[code], request_id, results=shown)


def all_rejected(
    results: Sequence[Result], request_id: str, *, shown: Sequence[Result] | None = None
) -> Reply:
    """400: nothing of it was accepted, and sending it again changes nothing."""
    worst = results[0]
    message = (
        f"none of {len(results)} was accepted; the first, item {worst.index}:"
        f" {worst.code}: {worst.message}"
    )
    return error_reply(RefusalCode.ALL_REJECTED, message, request_id, results=shown)

"""How a CSV file may call the fields of an account, and how its cells are read.

One place for whoever takes such files: ingest over HTTP and `perennial import accounts`.
"""

import re
from datetime import date

import msgspec

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("account_id", "tenant_id", "id", "account"),
    "name": ("name", "account_name"),
    "plan": ("plan",),
    "segment": ("segment",),
    "reseller": ("reseller",),
    "seats": ("seats",),
    "mrr": ("mrr", "monthly_spend"),
    "margin_per_month": ("margin_per_month",),
    "currency": ("currency",),
    "region": ("region",),
    "timezone": ("timezone",),
    "owner": ("owner", "csm"),
    "contract_start": ("contract_start",),
    "contract_end": ("contract_end", "renewal_date"),
    "notice_days": ("notice_days",),
    "billing_period": ("billing_period",),
    "status": ("status",),
    "churned_at": ("churned_at",),
    "goals": ("goals",),
}
"""The field, and the names of its column as `snake` writes them."""

_INTEGERS = frozenset({"seats", "notice_days"})
_DECIMALS = frozenset({"mrr", "margin_per_month"})
_DATES = frozenset({"contract_start", "contract_end", "churned_at"})

_INTEGER = re.compile(r"\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
# In such a file 1.234 may be a thousand and more: refused rather than guessed.
_COMMA_DECIMAL = re.compile(r"-?(\d+(,\d+)?|\d+\.(\d{1,2}|\d{4,}))", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def snake(column: str) -> str:
    """`accountId`, `Account ID` and `account-id` are `account_id`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column)
    return re.sub(r"[\s_-]+", "_", words).lower()


def read_cell(field: str, text: str, *, decimal_comma: bool) -> object:
    """A cell that is not empty as the value of its field in JSON; raises ValueError with the rule.

    The decimal comma is read in files with `;` only; `goals` are JSON in their cell.
    """
    if field in _INTEGERS:
        if not _INTEGER.fullmatch(text):
            raise ValueError("is not a whole number")
        return int(text)
    if field in _DECIMALS:
        form = _COMMA_DECIMAL if decimal_comma else _DECIMAL
        if not form.fullmatch(text):
            raise ValueError("is not a plain decimal number, without thousands separators")
        return text.replace(",", ".")
    if field in _DATES:
        if not _ISO_DATE.fullmatch(text):
            raise ValueError("is not a date written YYYY-MM-DD")
        return date.fromisoformat(text).isoformat()
    if field == "goals":
        try:
            return msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ValueError("is not JSON") from error
    return text

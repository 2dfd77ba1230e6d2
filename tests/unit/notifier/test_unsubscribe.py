"""Links to fewer e-mails: bound to a person, unforgeable, telling nobody who it is."""

import base64
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notifier.unsubscribe import VALID_FOR, Asked, Links, Wish, key_of, read, token
from tests.unit.notifier.factories import NOW

KEY = key_of("a secret of the vendor's")
TODAY = date(2026, 6, 1)
ANNA = Asked(address="anna@vendor.example", wish=Wish.DIGEST)
# RFC 5321: 64 characters, @, and a domain of 190 as `is_mail_address` takes it.
LONGEST = Asked(address=f"{'a' * 64}@{'b' * 190}", wish=Wish.DIGEST)


@pytest.mark.parametrize("asked", [ANNA, LONGEST], ids=["usual", "longest"])
def test_what_was_asked_for_comes_back(asked: Asked) -> None:
    assert read(KEY, token(KEY, asked, on=TODAY), today=TODAY) == asked


def test_a_token_shows_no_address() -> None:
    made = token(KEY, ANNA, on=TODAY)
    raw = base64.urlsafe_b64decode(made + "=" * (-len(made) % 4))
    assert b"anna" not in raw
    assert b"vendor" not in raw
    # 1 of the version, 16 of the tag, 2 of the day, 1 of the wish, 19 of the address
    assert len(raw) == 1 + 16 + 2 + 1 + 19


def test_a_link_is_the_same_all_day_and_fits_a_header() -> None:
    links = Links(key=KEY, console_url="https://console.vendor.example")
    url = links.digest(ANNA.address, now=NOW)
    assert url == links.digest(ANNA.address, now=NOW + timedelta(hours=11))
    assert url.startswith("https://console.vendor.example/unsubscribe/")
    assert len(links.digest(LONGEST.address, now=NOW)) < 500


@pytest.mark.parametrize(
    ("later", "valid"),
    [(timedelta(0), True), (VALID_FOR, True), (VALID_FOR + timedelta(days=1), False)],
)
def test_a_token_ends_after_a_year(later: timedelta, *, valid: bool) -> None:
    made = token(KEY, ANNA, on=TODAY)
    assert (read(KEY, made, today=TODAY + later) is not None) is valid


def test_another_key_opens_nothing() -> None:
    assert read(key_of("another secret"), token(KEY, ANNA, on=TODAY), today=TODAY) is None
    assert "secret" not in repr(KEY)


@given(st.data())
def test_a_changed_token_opens_nothing(data: st.DataObject) -> None:
    made = token(KEY, ANNA, on=TODAY)
    raw = bytearray(base64.urlsafe_b64decode(made + "=" * (-len(made) % 4)))
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    changed = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    assert read(KEY, changed, today=TODAY) is None


@given(st.text(max_size=600))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert read(KEY, text, today=TODAY) is None

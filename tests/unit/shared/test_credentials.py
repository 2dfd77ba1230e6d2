"""Keys: their form, their checks, what a caller learns; user ids and their hashes."""

import hashlib
import hmac
import re
import zlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.credentials import (
    KeyRing,
    NewKey,
    Refusal,
    Scope,
    Secret,
    bearer,
    hash_user,
    new_key,
    record_of,
)

NOW = datetime(2026, 6, 15, 12, 0, tzinfo=UTC)
_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _key(*, expires_at: datetime | None = None) -> NewKey:
    return new_key(source="app", scopes=[Scope.EVENTS_WRITE], now=NOW, expires_at=expires_at)


def _ring(*keys: NewKey) -> KeyRing:
    ring = KeyRing()
    for key in keys:
        ring.put(key.record)
    return ring


def test_a_key_has_a_form_that_scanners_find_and_a_checksum() -> None:
    key = _key()
    found = re.fullmatch(r"prn_live_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})_(\w{6})", key.secret)
    assert found is not None
    value = 0
    for digit in found[3]:
        value = value * 62 + _BASE62.index(digit)
    assert value == zlib.crc32(f"{found[1]}{found[2]}".encode())


def test_only_the_hash_of_the_secret_is_kept() -> None:
    key = _key()
    _prn, _live, key_id, secret, _checksum = key.secret.split("_")
    assert key.record.key_id == key_id
    assert key.record.secret_sha256 == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in repr(key.record)


def test_no_two_keys_are_equal() -> None:
    assert len({_key().secret for _ in range(100)}) == 100


def test_a_key_is_accepted_with_its_record() -> None:
    key = _key()
    assert _ring(_key(), key).check(key.secret, now=NOW) == key.record


def test_scopes_are_kept_once_and_sorted() -> None:
    scopes = [Scope.EVENTS_WRITE, Scope.BACKFILL, Scope.EVENTS_WRITE]
    record = new_key(source="app", scopes=scopes, now=NOW).record
    assert record.scopes == ("backfill", "events:write")
    assert Scope.BACKFILL in record.scopes
    assert Scope.ACCOUNTS_READ not in record.scopes


def test_a_key_has_expired_at_the_moment_that_it_names() -> None:
    end = NOW + timedelta(days=1)
    key = _key(expires_at=end)
    ring = _ring(key)
    assert ring.check(key.secret, now=end - timedelta(microseconds=1)) == key.record
    assert ring.check(key.secret, now=end) is Refusal.EXPIRED


@pytest.mark.parametrize("ahead", [-1, 0, 1])
def test_a_revoked_key_is_refused_whoever_s_clock_is_ahead(ahead: int) -> None:
    key = _key()
    ring = KeyRing()
    ring.put(key.record)
    assert ring.check(key.secret, now=NOW) == key.record
    revoked_at = NOW + timedelta(minutes=ahead)
    ring.put(msgspec.structs.replace(key.record, revoked_at=revoked_at))
    assert ring.check(key.secret, now=NOW) is Refusal.REVOKED


def test_a_key_that_was_found_once_is_looked_up_again_each_time() -> None:
    key = _key(expires_at=NOW + timedelta(hours=1))
    ring = KeyRing()
    ring.put(key.record)
    assert ring.check(key.secret, now=NOW) == key.record
    assert ring.check(key.secret, now=NOW + timedelta(hours=1)) is Refusal.EXPIRED
    ring.remove(key.record.key_id)
    assert ring.check(key.secret, now=NOW) is Refusal.UNKNOWN


def test_a_ring_that_is_not_read_yet_knows_no_unknown_keys() -> None:
    key = _key()
    ring = KeyRing(is_complete=False)
    assert ring.check(key.secret, now=NOW) is Refusal.UNREAD
    assert ring.check("nonsense", now=NOW) is Refusal.MALFORMED
    ring.is_complete = True
    assert ring.check(key.secret, now=NOW) is Refusal.UNKNOWN


def test_a_deleted_key_is_unknown() -> None:
    key = _key()
    ring = _ring(key)
    ring.remove(key.record.key_id)
    assert ring.check(key.secret, now=NOW) is Refusal.UNKNOWN
    ring.remove("never-was")


@pytest.mark.parametrize("state", ["good", "revoked", "expired"])
def test_a_wrong_secret_learns_nothing_of_the_key(state: str) -> None:
    """Who guesses gets one answer, whether the id exists, is revoked, expired, or not."""
    key = _key(expires_at=NOW if state == "expired" else None)
    ring = KeyRing()
    revoked_at = NOW if state == "revoked" else None
    ring.put(msgspec.structs.replace(key.record, revoked_at=revoked_at))
    guessed = _with(_key().secret, key_id=key.record.key_id)
    assert ring.check(guessed, now=NOW) is Refusal.UNKNOWN
    assert KeyRing().check(guessed, now=NOW) is Refusal.UNKNOWN


def test_a_secret_is_compared_also_where_the_id_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    known = _key()
    ring = _ring(known)
    for presented in (known.secret, _key().secret):
        ring.check(presented, now=NOW)
    assert compared == [(64, 64), (64, 64)]


@pytest.mark.parametrize("presented", [None, ""])
def test_no_key_is_missing(presented: str | None) -> None:
    assert KeyRing().check(presented, now=NOW) is Refusal.MISSING


@given(place=st.integers(9, 60), digit=st.sampled_from(_BASE62))
def test_one_wrong_letter_is_a_typing_error(place: int, digit: str) -> None:
    key = record_key()
    changed = key.secret[:place] + digit + key.secret[place + 1 :]
    answer = _ring(key).check(changed, now=NOW)
    assert answer == (key.record if changed == key.secret else Refusal.MALFORMED)


@given(st.text())
def test_any_text_is_answered(presented: str) -> None:
    answer = KeyRing().check(presented, now=NOW)
    assert answer is (Refusal.MALFORMED if presented else Refusal.MISSING)


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "x{}", "{}x"])
def test_a_key_with_something_around_it_is_none(around: str) -> None:
    key = _key()
    assert _ring(key).check(around.format(key.secret), now=NOW) is Refusal.MALFORMED
    with pytest.raises(ValueError, match="not a key"):
        record_of(Secret(around.format(key.secret)), source="app", scopes=[], now=NOW)


def test_a_record_can_be_made_of_a_key_again() -> None:
    key = _key()
    again = record_of(key.secret, source="app", scopes=[Scope.EVENTS_WRITE], now=NOW)
    assert again == key.record


def test_the_ring_lists_its_keys_the_oldest_first() -> None:
    keys = [new_key(source="app", scopes=[], now=NOW - timedelta(days=n)) for n in range(5)]
    assert _ring(*keys).records() == [key.record for key in reversed(keys)]


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer   abc ", "abc"),
        ("BEARER abc", "abc"),
        ("Basic abc", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("abc", None),
        ("", None),
        (None, None),
    ],
)
def test_the_token_of_an_authorization_header(header: str | None, token: str | None) -> None:
    assert bearer(header) == token


# `printf %s USER | openssl dgst -sha256 -hmac KEY`, the first 32 digits.
@pytest.mark.parametrize(
    ("key", "user", "hashed"),
    [
        (b"k" * 32, "u-1", "79c14fe793b146333c82131b9fc68908"),
        (b"k" * 32, "Jürgen Müller", "303dbdbf2aaad3d82aaac278f666a3b6"),
        (b"other-key-of-another-deployment!", "u-1", "09a17b30093a5c7b1000c78381435d74"),
    ],
)
def test_a_user_is_hashed_as_openssl_does_it(key: bytes, user: str, hashed: str) -> None:
    assert hash_user(key, user) == f"u1:{hashed}"


def test_a_lone_surrogate_is_hashed_too() -> None:
    assert hash_user(b"k" * 32, "\ud800") != hash_user(b"k" * 32, "\ud801")


@given(st.lists(st.text(), unique=True, max_size=20))
def test_different_users_have_different_hashes(users: list[str]) -> None:
    for key in (b"", b"k" * 63, b"k" * 64, b"k" * 65, b"k" * 200):
        expected = hmac.digest(key, b"ada", "sha256")[:16].hex()
        assert hash_user(key, "ada") == f"u1:{expected}"
    assert len({hash_user(b"k" * 32, user) for user in users}) == len(users)


def record_key() -> NewKey:
    """One key that never changes: Hypothesis repeats what it has found."""
    key_id, secret = "0" * 12, "abcdefghijklmnopqrstuvwxyz012345"
    value, digits = zlib.crc32(f"{key_id}{secret}".encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    whole = Secret(f"prn_live_{key_id}_{secret}_{digits}")
    return NewKey(whole, record_of(whole, source="app", scopes=[], now=NOW))


def _with(secret: str, *, key_id: str) -> str:
    """A well-formed key of this id with the secret of another."""
    other = secret.split("_")[3]
    value, digits = zlib.crc32(f"{key_id}{other}".encode()), ""
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return f"prn_live_{key_id}_{other}_{digits}"

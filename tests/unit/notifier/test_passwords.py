"""Passwords: which may be chosen, and that only the right one opens."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.notifier import passwords
from services.notifier.passwords import Passwords, Weak, is_outdated, why_weak

GOOD = "tall trees in november"


@pytest.mark.parametrize(
    ("password", "why"),
    [
        (GOOD, None),
        ("abcdefghijk", Weak.SHORT),
        ("äöüäöüäöüäö", Weak.SHORT),
        ("ab cd ef gh ", None),
        ("a" * 1_001, Weak.LONG),
        ("aaaaaaaaaaaaaaaa", Weak.COMMON),
        ("Password1234", Weak.COMMON),
        ("PASSWORD!!!!2026", Weak.COMMON),
        ("123456789012", Weak.COMMON),
        ("098765432109", Weak.COMMON),
        ("827401938465", None),
        ("correct horse battery staple", Weak.COMMON),
        ("anna@vendor.example", Weak.COMMON),
    ],
)
def test_what_may_be_chosen(password: str, why: Weak | None) -> None:
    assert why_weak(password, address="Anna@vendor.example") is why


async def test_only_the_right_one_opens_and_nothing_else_does() -> None:
    checker = Passwords()
    stored = await checker.make(GOOD)
    assert await checker.is_right(GOOD, stored)
    for wrong in ("", GOOD.upper(), f"{GOOD} ", GOOD[:-1], "\ud800", "\0"):
        assert not await checker.is_right(wrong, stored)
    assert not await checker.is_right(GOOD, None)
    # Nobody's password is never anybody's, whatever is tried.
    assert not await checker.is_right("", None)


async def test_the_same_password_is_stored_differently_with_how_it_was_made() -> None:
    checker = Passwords()
    first, second = await checker.make(GOOD), await checker.make(GOOD)
    assert first != second
    # 2 ** 15 x 8 x 128 bytes = 32 MiB, three times.
    assert re.fullmatch(r"scrypt\$15,8,3\$[A-Za-z0-9+/]{22}==\$[A-Za-z0-9+/]{43}=", first)
    assert not is_outdated(first)


async def test_one_that_was_made_cheaper_still_opens_and_is_made_anew() -> None:
    cheap = passwords._Cost(log2_n=10, r=8, p=1)
    salt = b"s" * 16
    stored = passwords._text(cheap, salt, cheap.derive(GOOD, salt))
    assert await Passwords().is_right(GOOD, stored)
    assert is_outdated(stored)


async def test_how_a_keyboard_composes_a_letter_does_not_matter() -> None:
    checker = Passwords()
    stored = await checker.make("gr\u00fcne b\u00e4ume stehen")
    assert await checker.is_right("gru\u0308ne ba\u0308ume stehen", stored)


@given(st.text())
@settings(max_examples=200)
def test_no_password_is_odd_enough_to_fail(password: str) -> None:
    cheap = passwords._Cost(log2_n=1, r=1, p=1)
    assert len(cheap.derive(password, b"s")) == 32
    why_weak(password, address="a@b.example")


async def test_what_can_be_chosen_opens_however_many_signs_were_typed() -> None:
    # 900 letters, typed as 1,200 signs: an accent apart from its letter.
    typed = "abe\u0301" * 300
    assert (len(typed), why_weak(typed, address="a@b.example")) == (1_200, None)
    checker = Passwords()
    assert await checker.is_right(typed, await checker.make(typed))

"""What names and numbers that people type may be. Each function returns the clean value or raises ApiError naming the field.

Used by the verbs of `keys` and `customers`, so that the command line and any later API refuse the same things.
"""

import re
import unicodedata

from control_plane.errors import ApiError

MAX_NUMBER = 2_000_000_000  # PostgreSQL's integer holds a little more
_JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji need them; other invisible characters only mislead
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
_MAX_EMAIL = 254
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+")


def clean_name(text: str, *, field: str, max_length: int) -> str:
    """One line of visible text, in Unicode's composed form."""
    name = unicodedata.normalize("NFC", text).strip()
    if not name:
        raise _invalid(field, "must not be empty.")
    if len(name) > max_length:
        raise _invalid(field, f"must not be longer than {max_length} characters.")
    if any(unicodedata.category(character) in _INVISIBLE and character not in _JOINERS for character in name):
        raise _invalid(field, "must not contain control characters, line breaks or invisible characters.")
    return name


def clean_email(text: str) -> str:
    """An address as it was written. Two that differ only in case belong to one customer."""
    email = clean_name(text, field="email", max_length=_MAX_EMAIL)
    if not _EMAIL.fullmatch(email):
        raise _invalid("email", "must be an address such as ops@example.com.")
    return email


def positive(number: int | None, *, field: str, at_most: int = MAX_NUMBER) -> int | None:
    """A count that is at least one, or None."""
    if number is not None and not 1 <= number <= at_most:
        raise _invalid(field, f"must be a whole number from 1 to {at_most}.")
    return number


def _invalid(field: str, what: str) -> ApiError:
    return ApiError("invalid_field", f"{field} {what}", param=field)

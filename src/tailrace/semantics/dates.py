"""HTTP dates: written in one format, read in three.

Source: RFC 9110 section 5.6.7.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final

__all__ = ["format_date", "parse_date"]

_MONTHS: Final = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS: Final = ("Mon", "Tues", "Wednes", "Thurs", "Fri", "Satur", "Sun")

_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_SHORT_DATE = rf"(?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}})"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_FORMATS: Final = (
    # Sun, 06 Nov 1994 08:49:37 GMT
    rf"(?:{'|'.join(_DAYS)}), (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",
    # Sunday, 06-Nov-94 08:49:37 GMT
    rf"(?:{'|'.join(_LONG_DAYS)})day, {_SHORT_DATE} {_TIME} GMT",
    # Sun Nov  6 08:49:37 1994
    rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",
)


def parse_date(text: str, *, now: float) -> int | None:
    """The time that an HTTP date names; None if the text is not an HTTP date.

    The name of the weekday is not checked against the date: a client that has it wrong means the
    same time.

    Args:
        text: A header's value: IMF-fixdate, RFC 850 or asctime.
        now: Seconds since the epoch. RFC 850 has two digits for the year; a date that would be more
            than 50 years ahead is taken to be in the century before.

    Returns:
        Whole seconds since the epoch.
    """
    for pattern in _FORMATS:
        # Compiled at the first call and kept by `re`: on import it would cost milliseconds.
        if match := re.fullmatch(pattern, text.strip(" \t")):
            return _seconds(match, now)
    return None


def format_date(seconds: float) -> str:
    """A time as an IMF-fixdate, without its fraction of a second."""
    return formatdate(int(seconds), usegmt=True)


def _seconds(match: re.Match[str], now: float) -> int | None:
    year, second = int(match["year"]), int(match["second"])
    if len(match["year"]) == 2:
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % 100
        if year > this_year + 50:
            year -= 100
    if second == 60:  # a leap second, which the grammar allows and `datetime` does not
        second, leap = 59, 1
    else:
        leap = 0
    try:
        date = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            second,
            tzinfo=UTC,
        )
    except ValueError:  # the 31st of February, 25 o'clock
        return None
    return int(date.timestamp()) + leap

"""Numbers as text: no more digits than the spread supports, thousands separated, a true minus sign."""
from __future__ import annotations

import math

SIGNIFICANT = 4  # digits of a figure without a spread
_MOST_PLACES = 6  # beyond, scientific notation


def value_text(value: float, std: float | None, n: int, unit: str) -> str:
    """Ours: `92.52 ± 0.59 % (n = 3)`; two significant digits of the standard deviation set the value's digits."""
    places = _places(value, std)
    spread = f" ± {_fixed(std, places)}" if std is not None else ""
    return f"{_fixed(value, places)}{spread}{_unit(unit)} (n = {n})"


def printed_text(value: float, unit: str) -> str:
    """The paper's: as printed, with nothing added."""
    return _fixed(value, _printed_places(value)) + _unit(unit)


def difference_text(value: float, std: float | None, printed: float) -> str:
    """Ours minus the paper's, signed, with the digits of ours, or of the paper's where ours has no spread."""
    places = _places(value, std) if std else max(_places(value, std), _printed_places(printed))
    text = _fixed(value - printed, places)
    if not any(digit in text for digit in "123456789"):
        return text.lstrip("−")
    return text if text.startswith("−") else "+" + text


def _places(value, std):
    """Decimal places to show; negative ones round to tens and more."""
    if std:
        return 1 - _magnitude(float(f"{std:.1e}"))  # 0.0996 becomes 0.10 before its digits are counted
    return 0 if float(value).is_integer() else max(SIGNIFICANT - 1 - _magnitude(value), 0)


def _printed_places(value):
    return 0 if float(value).is_integer() else len(repr(value).partition(".")[2])


def _magnitude(value):
    return math.floor(math.log10(abs(value)))


def _fixed(value, places):
    if places > _MOST_PLACES and value:
        digits = min(max(places + _magnitude(value), 0), SIGNIFICANT - 1)
        text = f"{value:.{digits}e}"
    else:
        text = f"{round(value, places):,.{min(max(places, 0), _MOST_PLACES)}f}"
    return text.replace("-", "−", 1) if value < 0 else text


def _unit(unit):
    return f" {unit}" if unit else ""

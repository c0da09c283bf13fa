"""Format numbers for readers: rounded by their uncertainty.

A value is rounded to the decimal place of the second significant digit of its uncertainty (half the
width of the confidence interval, else the standard deviation): 0.85312 with an interval of +-0.0114
is printed as 0.853. Counts are exact.
"""

from __future__ import annotations

import math

RULE = (
    "Values are rounded to two significant digits of half the confidence interval "
    "(or of the standard deviation if there is none)."
)
NONE = "–"


def decimals(uncertainty: float) -> int:
    """Decimal places that show two significant digits of ``uncertainty``; 3 if it is unknown."""
    if not math.isfinite(uncertainty) or uncertainty <= 0:
        return 3
    # the exponent of the rounded value: 0.0996 is rounded to 0.10
    exponent = int(f"{uncertainty:.1e}".split("e")[1])
    return min(max(1 - exponent, 0), 6)


def fixed(value: float | None, places: int) -> str:
    """A number with fixed decimals and a true minus sign; a dash if there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def interval(low: float, high: float, places: int) -> str:
    """A confidence interval ``[low, high]``; a dash if there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NONE
    return f"[{fixed(low, places)}, {fixed(high, places)}]"


def integer(value: float | None) -> str:
    """A count with thousands separated by commas."""
    return NONE if value is None or not math.isfinite(value) else f"{round(value):,}"


def significant(value: float | None, digits: int = 3) -> str:
    """A number of unknown uncertainty with some significant digits, without an exponent."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    return f"{round(value, digits - 1 - exponent):,.{max(digits - 1 - exponent, 0)}f}"


def probability(value: float) -> str:
    """A p value with three decimals, or ``< 0.001``."""
    if not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def stored(value: object) -> object:
    """A value for CSV: floats have nine significant digits, the same on every machine."""
    return float(f"{value:.9g}") if isinstance(value, float) and math.isfinite(value) else value

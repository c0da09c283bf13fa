"""Numbers as a reader should see them: rounded by their uncertainty, with a unit.

The rule: a value is given to the decimal place of the second significant digit of its uncertainty
(half the width of the confidence interval, else the standard deviation), so 0.85312 with an
interval of +-0.0114 reads 0.853. Counts are exact.
"""

from __future__ import annotations

import math

RULE = (
    "Values are rounded to two significant digits of half the confidence interval "
    "(of the standard deviation where there is none)."
)
NONE = "–"


def decimals(uncertainty: float) -> int:
    """Decimal places that show two significant digits of ``uncertainty``; 3 where it is unknown."""
    if not math.isfinite(uncertainty) or uncertainty <= 0:
        return 3
    # 0.0996 would round to 0.10: two significant digits of the rounded value, not of the raw one
    exponent = int(f"{uncertainty:.1e}".split("e")[1])
    return min(max(1 - exponent, 0), 6)


def fixed(value: float | None, places: int) -> str:
    """A number with fixed decimals and a true minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:.{places}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def interval(low: float, high: float, places: int) -> str:
    """A confidence interval ``[low, high]``; a dash where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NONE
    return f"[{fixed(low, places)}, {fixed(high, places)}]"


def integer(value: float | None) -> str:
    """A count with thousands separated by commas."""
    return NONE if value is None or not math.isfinite(value) else f"{round(value):,}"


def significant(value: float | None, digits: int = 3) -> str:
    """A measured number of unknown uncertainty, to some significant digits, without exponent."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    return f"{round(value, digits - 1 - exponent):,.{max(digits - 1 - exponent, 0)}f}"


def probability(value: float) -> str:
    """A p value: ``< 0.001`` below that, else three decimals."""
    if not math.isfinite(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def stored(value: object) -> object:
    """A value as CSV holds it: floats to nine significant digits, the same on every machine."""
    return float(f"{value:.9g}") if isinstance(value, float) and math.isfinite(value) else value

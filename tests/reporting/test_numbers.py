"""Digits that the spread supports."""
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxelm.reporting.numbers import difference_text, printed_text, value_text


@pytest.mark.parametrize("value, std, text", [
    (92.5234, 0.593, "92.52 ± 0.59"),
    (92.5234, 0.0996, "92.52 ± 0.10"),
    (92.5, 5.93, "92.5 ± 5.9"),
    (12345.678, 234.5, "12,350 ± 230"),
    (98.0, 0.0, "98 ± 0"),
    (98.5712, None, "98.57"),
    (1199882, None, "1,199,882"),
    (-0.25, None, "−0.2500"),
    (3.4124e-11, None, "3.412e-11"),
    (1.2e-6, 1.23e-7, "1.20e-06 ± 1.2e-07"),
    (0.0, 1e-9, "0.000000 ± 1.0e-09"),
])
def test_ours(value, std, text):
    assert value_text(value, std, 3, "") == f"{text} (n = 3)"


@pytest.mark.parametrize("value, text", [(98.57, "98.57"), (97.5, "97.5"), (98, "98"), (98.0, "98"),
                                         (1_200_000, "1,200,000"), (0.5, "0.5")])
def test_the_papers_as_printed(value, text):
    assert printed_text(value, "") == text


@pytest.mark.parametrize("value, std, printed, text", [
    (98.7, 0.05, 98.57, "+0.130"),
    (69.0, None, 69.6, "−0.6"),
    (1792, None, 1792, "0"),
    (98.5701, None, 98.57, "0.00"),
    (98.5699, None, 98.57, "0.00"),
    (70378, None, 70000, "+378"),
])
def test_difference(value, std, printed, text):
    assert difference_text(value, std, printed) == text


@given(st.floats(-1e9, 1e9), st.floats(1e-9, 1e6))
def test_what_is_shown_is_within_the_spread(value, std):
    shown, spread = value_text(value, std, 2, "").rpartition(" (n")[0].replace("−", "-").replace(",", "").split(" ± ")
    assert abs(float(shown) - value) <= max(0.06 * std, 6e-4 * abs(value) if "e" in shown else 0)
    assert abs(float(spread) - std) <= 0.06 * std

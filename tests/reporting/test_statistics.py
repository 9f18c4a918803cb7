"""McNemar's test against the binomial sum that defines it."""
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mxelm.errors import InputError
from mxelm.reporting.statistics import discordant, mcnemar


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5), st.integers(0, 5))
def test_twice_the_smaller_tail(only_a, only_b, both, none):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, none])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, none])
    n, fewer = only_a + only_b, min(only_a, only_b)
    tail = sum(comb(n, i) for i in range(fewer + 1)) / 2 ** n
    assert discordant(a, b) == (only_a, only_b)
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(min(1, 2 * tail))


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="bool arrays"):
        mcnemar(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(InputError, match="bool arrays"):
        mcnemar(np.ones(3), np.ones(3, bool))


def test_the_spread_of_seeds():
    from mxelm.reporting.statistics import spread
    assert spread([1.0]) is None and spread([]) is None and spread([1, 3]) == pytest.approx(2 ** 0.5)

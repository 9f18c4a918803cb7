import pickle

import pytest

import mxelm
from mxelm import errors


@pytest.mark.parametrize("kind, builtin", [
    (errors.InputError, ValueError), (errors.FileError, OSError), (errors.EnvironmentProblem, RuntimeError)])
def test_every_error_is_an_mxelm_error_and_its_builtin_kind(kind, builtin):
    for caught in (mxelm.MxelmError, builtin):
        with pytest.raises(caught, match="^one sentence$"):
            raise kind("one sentence")


@pytest.mark.parametrize("kind", [errors.InputError, errors.FileError, errors.EnvironmentProblem])
def test_errors_cross_process_borders(kind):
    again = pickle.loads(pickle.dumps(kind("one sentence")))
    assert type(again) is kind and str(again) == "one sentence"

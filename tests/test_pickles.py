"""mxelm.pickles: what is written is read, nothing is run, and neither time nor memory are the stranger's to choose."""
import io
import pickle

import pytest

from mxelm import pickles


def load(content, **names):
    return pickles.Unpickler(io.BytesIO(content), {("m", name): stand_in for name, stand_in in names.items()}).load()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_texts_numbers_lists_tuples_and_dictionaries(protocol):
    content = {"a": [1, -2, 300, 70_000, 2 ** 40, 0.5, True, False, None], "b": ("x", ("y", ())),
               "größe": {"c": "d" * 300}}
    assert load(pickle.dumps(content, protocol)) == content
    assert load(pickle.dumps([content["a"]] * 3, protocol)) == [content["a"]] * 3


@pytest.mark.parametrize("content", [
    b"cos\nsystem\n.", b"cm\nother\n.", b"}K\1K\2s.", b"})K\2s.", b"]2.", b"(lp0\n.", b"\x8f.",
    b"\x80\5\x96" + b"\xff" * 8, b"\x8c\1mcm\nthing\n", b"", b"\x80\2K", b"cm\nthing\nN(b."])
def test_what_is_not_needed_is_refused(content):
    with pytest.raises((ValueError, KeyError, EOFError, TypeError, IndexError)):
        load(content, thing=pickles.StandIn)


def test_the_number_of_steps_has_an_end(monkeypatch):
    monkeypatch.setattr(pickles, "MOST_STEPS", 1000)
    assert load(b"]" + b"K\1a" * 300 + b".") == [1] * 300
    for content in (b")" * 2000 + b".", b"\x80\4\x95" + (2001).to_bytes(8, "little") + b")" * 2000 + b"."):
        with pytest.raises(ValueError, match="more steps"):
            load(content)

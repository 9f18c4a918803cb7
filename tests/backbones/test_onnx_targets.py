"""Where the batch goes in a Reshape of a model that fixes it, as exporters write attention and poolings."""
import pytest

pytest.importorskip("onnx")
from mxelm.backbones.onnx.targets import target_shape
from mxelm.backbones.onnx.values import BATCH as B
from mxelm.backbones.onnx.values import Unsupported


@pytest.mark.parametrize("old, target, fixed, new", [
    ((B, 8, 1, 1), (1, -1), 1, (B, 8)), ((B, 8, 1, 1), (4, 8), 4, (B, 8)),
    ((B, 8, 7, 7), (1, 8, 49), 1, (B, 8, 49)), ((B, 14, 14, 6), (1, 2, 7, 2, 7, 6), 1, (B, 2, 7, 2, 7, 6)),
    ((B, 2, 2, 7, 7, 6), (4, 49, 6), 1, (4 * B, 49, 6)), ((4 * B, 49, 6), (1, 2, 2, 7, 7, 6), 1, (B, 2, 2, 7, 7, 6)),
    ((17, B, 24), (17, 4, 6), 1, (17, 4 * B, 6)),  # heads beside images
    ((4 * B, 17, 6), (1, 4, 17, 6), 1, (B, 4, 17, 6)),
    ((17, B, 4, 6), (17, 24), 1, (17 * B, 24)), ((17 * B, 24), (17, 1, 24), 1, (17, B, 24)),
    ((8 * B,), (1, 8, 1, 1), 1, (B, 8, 1, 1)),
    ((B, 8), (-1, 2, 4), None, (B, 2, 4)), ((B, 8), (0, 4, 2), None, (B, 4, 2))])
def test_the_batch_is_freed_where_it_was(old, target, fixed, new):
    assert target_shape(old, target, fixed, 0) == new


@pytest.mark.parametrize("old, target, words", [((B, 8), (3, 5), "cannot take the shape"),
                                                ((B, 6), (3, 4), "mixes images")])
def test_what_cannot_be_is_refused(old, target, words):
    with pytest.raises(Unsupported, match=words):
        target_shape(old, target, 2 if words == "mixes images" else 1, 0)

"""The ONNX project's own tests: `pytest -m onnx`. What does not pass is listed here with its reason."""
import pytest

pytest.importorskip("onnx.reference")
import onnx_suite

pytestmark = pytest.mark.onnx
CASES = onnx_suite.cases()
LIGHT = sorted((onnx_suite.folder() / "light").glob("*.onnx"))


@pytest.mark.parametrize("name", CASES)
def test_backend(name, request):
    if onnx_suite.foreign(CASES[name]):
        pytest.skip(f"MXNet has no such arrays: {onnx_suite.foreign(CASES[name])}")
    if name in onnx_suite.REASONS:
        request.applymarker(pytest.mark.xfail(reason=onnx_suite.REASONS[name], strict=True))
    onnx_suite.run(CASES[name])


def test_at_least_95_of_100_pass():
    tested = {name for name, path in CASES.items() if not onnx_suite.foreign(path)}
    assert len(tested) > 600
    assert len(tested & set(onnx_suite.REASONS)) <= 0.05 * len(tested)


@pytest.mark.parametrize("path", LIGHT, ids=lambda path: path.stem)
def test_light_network(path):
    assert onnx_suite.light_difference(path) < 1e-4

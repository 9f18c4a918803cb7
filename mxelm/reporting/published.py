"""What the papers print: every figure with its place, keyed by the id of the row that measures the same here.

Papers are cited by their place alone (figure, table, row, section); `tables.SECTIONS` names the papers.
"""
from dataclasses import dataclass
from typing import Optional, Union


@dataclass(frozen=True)
class Published:
    """One printed figure, or one claim made in words (value None, the claim in `note`).

    unit: as in the rows of `results`. tolerance: half a unit of the last printed digit, in `unit`; 0 for exact counts.
    note: what must be known to read the figure. comparable: False where it cannot be set beside a measurement, which
    the note then explains. images: how many test images an accuracy was counted on, where the paper says.
    """
    id: str
    value: Optional[Union[int, float]]
    unit: str
    place: str
    note: str = ""
    comparable: bool = True
    tolerance: float = 0.0
    images: Optional[int] = None


def _accuracy(id, printed, place, note="", comparable=True, images=None):
    """A figure in per cent from its printed form, whose last digit gives the tolerance."""
    decimals = len(printed.partition(".")[2])
    return Published(id, float(printed), "%", place, note, comparable, 0.5 * 10 ** -decimals, images)


def _claim(id, place, words):
    return Published(id, None, "", place, words)


FUSED = (
    _claim("fused.unfused_agreement", "section 2",
           "claims that the matrices summed over batches give a solution equal to that of H beta = Y"),
    _claim("fused.caltech101.elm_per_class", "section 1",
           "claims that fusing does not affect the numerical performance; prints no accuracy"),
    _claim("fused.caltech101.state_bytes", "section 2",
           "claims that the size of HtH and HtY does not change with the amount of training data"),
    _claim("fused.peak_mb_growth", "section 2",
           "claims that the size of what is kept does not change with the amount of training data"),
    _claim("fused.grid_seconds_20x4000", "section 2",
           "claims that l2 and the number of neurons can be chosen without creating the training data again"),
    _claim("fused.terabyte_images.pooled", "abstract, sections 1 and 2",
           "claims that extracted features reach terabytes; says neither of which layer nor of how many images"),
    _claim("fused.terabyte_images.map", "abstract, sections 1 and 2",
           "claims that extracted features reach terabytes; says neither of which layer nor of how many images"),
    Published("fused.syrk_over_dot", 0.5, "ratio", "section 4",
              "printed as \"saving up to half of its runtime depending on internal implementation\": every ratio "
              "from 0.5 to 1 agrees", tolerance=0.5),
)

_ONE_RUN = "a single run"
_EPOCHS = ("printed alike for 5 and 20 epochs, which the search does not have; the images behind the fitness are "
           "unstated")
_TRAINING = "looks like a training accuracy: beside it stands what the same network reaches on its training images here"
_WITHOUT_REFERENCES = ("four bytes a kernel weight; the reference set that k-NN needs is left out (60,000 x 1,600 "
                       "float32 features are 384 MB)")
_OTHER_MACHINE = ("another machine (Intel i5-9600K, 6 cores), and the number of evaluations is not stated; "
                  "CMA-ES 24 hours, PSO 12 hours")
_FITNESS = "what the printed figure would be if the fitness images were the test images, which the talk does not say"


def _knn_sizes():
    """The two size columns of the table of inference engines, and the two last rows from the text beside it."""
    rows = (("128", 1_200_000, 50_000, 4.5 * 2**20, 0.05 * 2**20), ("64", 122_000, 500, 0.5 * 2**20, 0.05 * 2**20),
            ("32", 70_000, 500, 273 * 2**10, 512), ("16", 44_600, 50, 174 * 2**10, 512),
            ("8", 31_700, 50, 124 * 2**10, 512), ("knn", 18_800, 50, 74 * 2**10, 512))
    for name, parameters, last_digit, size, size_digit in rows:
        place = "slide on training times and k-NN slicing" if name == "knn" else f"table of engine sizes, row {name}"
        yield Published(f"knn.params.{name}", parameters, "parameters", place, "rounded in print", True, last_digit)
        note = "printed in KB or MB, read as powers of 1,024"
        note += f"; {_WITHOUT_REFERENCES}" if name == "knn" else ""
        yield Published(f"knn.bytes.{name}", round(size), "bytes", place, note, True, size_digit)


def _knn_accuracies():
    """The table of accuracies: a column is training images / test images and epochs."""
    table = {("128", "1.2 million"): ("97.5", "99.91", "98"), ("64", "122k"): ("97", "98.96", "97.5"),
             ("32", "70k"): ("97", "98.98", "97.5"), ("16", "44.6k"): ("96.1", "98.65", "97.4"),
             ("8", "31.7k"): ("87.5", "97.8", "96.5")}
    for (name, row), printed in table.items():
        for column, figure in zip(("4000_5", "60000_5", "4000_20"), printed):
            images, epochs = column.split("_")
            doubtful = (name, column) == ("128", "60000_5")
            note = _TRAINING if doubtful else _ONE_RUN
            place = f"table of accuracies, row {row}, {images} training images, {epochs} epochs"
            yield _accuracy(f"knn.accuracy.{name}.{column}", figure, place, note, not doubtful,
                            10_000 if column == "60000_5" else 1000)
    for method, few, many in (("cma", "97.5", "98.57"), ("pso", "97.3", "98.52")):
        place = f"table of accuracies, row 18.8k {'CMA-ES' if method == 'cma' else 'PSO'}"
        yield _accuracy(f"knn.{method}.4000.test1000", few, f"{place}, column 4000/1000", f"{_ONE_RUN}; {_EPOCHS}",
                        images=1000)
        yield _accuracy(f"knn.{method}.fitness_on_test.4000", few, f"{place}, column 4000/1000", _FITNESS, images=1000)
        yield _accuracy(f"knn.{method}.60000.test10000", many, f"{place}, column 60000/10000", _ONE_RUN, images=10_000)


KNN = (*_knn_sizes(), *_knn_accuracies(),
       Published("knn.evolution_minutes", 24 * 60, "minutes", "slide on training times and k-NN slicing",
                 _OTHER_MACHINE, False, 30))

_UNTRACEABLE = ("cannot be traced to a run of the published code: its test labels are training labels taken at the "
                "test positions, its columns are off by one class, and 0.696 is no multiple of 1/100")
_TRAINING_FIGURE = ("a training accuracy; cannot be traced to a run of the published code: like all of its log "
                    "it is a multiple of 1/1000, where 5,000 images are stated")
_FIGURE_6 = {
    "input_1": 0, "z1": 1792, "bn1": 256, "activation": 0, "z2": 15600, "bn2": 960, "activation_1": 0,
    "gunn2d": 48281, "z3": 72300, "bn3": 1200, "activation_2": 0, "avg_pool1": 0, "gunn2d_1": 60341, "z4": 108360,
    "bn4": 1440, "activation_3": 0, "avg_pool2": 0, "gunn2d_2": 72401, "z5": 129960, "bn5": 1440, "activation_4": 0,
    "avg_pool3": 0, "flatten": 0, "fc1": 129960, "fc2": 129960, "fc3": 1083,
    "total": 775334, "trainable": 772686, "non_trainable": 2648,
}
_ORIGINAL = "Qiao et al. (ICML 2018), README of their code, row "

GUNN = (
    *(Published(f"gunn.params.{name}", count, "parameters", f"figure 6, row {name}")
      for name, count in _FIGURE_6.items()),
    Published("gunn.original.params.15", 1_600_000, "parameters", _ORIGINAL + "GUNN-15", "rounded in print", True,
              50_000),
    Published("gunn.original.params.15_100", 1_600_000, "parameters", _ORIGINAL + "GUNN-15",
              "rounded in print; one figure for CIFAR-10 and CIFAR-100", True, 50_000),
    Published("gunn.original.params.18", 28_900_000, "parameters", _ORIGINAL + "GUNN-18", "rounded in print", True,
              50_000),
    _accuracy("gunn.3class.printed.test100", "69.60", "section 6 and section 7, test accuracy after 50 epochs",
              _UNTRACEABLE, False),
    _accuracy("gunn.3class.printed.train_last", "72.90", "section 6, training accuracy at epoch 100",
              _TRAINING_FIGURE, False),
    _accuracy("gunn.3class.printed.train_best", "76.20", "section 6 and section 7, best training accuracy (epoch 91)",
              _TRAINING_FIGURE, False),
    _accuracy("gunn.10class", "95.85", _ORIGINAL + "GUNN-15, CIFAR-10 error 4.15",
              "300 epochs on four GPUs; their code keeps the epoch with the best test error", images=10_000),
    _accuracy("gunn.10class.as_quoted", "80", "section 7, quoted of the original for 10 classes",
              "not what the original prints: 95.85 for 10 classes, 79.55 for the 100 classes of CIFAR-100; and figures "
              "for 3 and for 10 classes do not compare", False),
)

PUBLISHED = (*FUSED, *KNN, *GUNN)

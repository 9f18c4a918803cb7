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
    why_not: why no row of ours can stand beside it.
    """
    id: str
    value: Optional[Union[int, float]]
    unit: str
    place: str
    note: str = ""
    comparable: bool = True
    tolerance: float = 0.0
    images: Optional[int] = None
    why_not: str = ""


def _accuracy(id, printed, place, note="", comparable=True, images=None):
    """A figure in per cent from its printed form, whose last digit gives the tolerance."""
    decimals = len(printed.partition(".")[2])
    return Published(id, float(printed), "%", place, note, comparable, 0.5 * 10 ** -decimals, images)


def _claim(id, place, words, why_not=""):
    return Published(id, None, "", place, words, why_not=why_not)


def _out_of_reach(id, value, unit, place, why_not, note=""):
    """A printed figure that cannot be measured here."""
    return Published(id, value, unit, place, note, why_not=why_not)


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
    _claim("fused.in_graph_accumulation", "section 2, step 4, and section 3",
           "claims that step 4 can be an accumulator layer, and that \"the symbolic interface does not support "
           "between-batch accumulator operations\"; a gradient that is added up does it"),
    _claim("fused.inception21k.accuracy", "section 3", "uses Inception21k's features",
           "its weights are gone from every host that is known; rows use EfficientNet-Lite0 or random weights instead"),
    *(_claim(f"fused.features_compressed.{name}", "section 1",
             "claims that the dense, random-like nature of features prevents efficient compression")
      for name in ("gzip", "zstd")),
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


_IMAGENET = "needs ImageNet and trained weights of this network, of which neither is at hand"


def _architectures():
    """The introduction's table of architectures, which contradicts the slides beside it."""
    table = {"alexnet": (57.1, 80.2), "inception_v1": (69.8, 89.3), "vgg": (70.5, 91.2), "resnet50": (75.2, 93.0),
             "inception_v3": (78.8, 94.4)}
    for name, printed in table.items():
        note = "dated 2013, beside a slide that has it win the competition of 2014" if name == "vgg" else ""
        for which, value in zip(("top1", "top5"), printed):
            yield _out_of_reach(f"knn.architectures.{name}.{which}", value, "%",
                                f"introduction, table of architectures, row {name}", _IMAGENET, note)


_TIMES = "slide on training times and k-NN slicing"
KNN = (*_knn_sizes(), *_knn_accuracies(),
       *(Published(f"knn.smaller.{name}", value, "ratio", _TIMES,
                   "printed with \"about\"; the references that k-NN needs are left out, as in print",
                   tolerance=tolerance)
         for name, value, tolerance in (("128", 60, 5), ("64", 7, 0.5))),
       Published("knn.evolution_minutes", 24 * 60, "minutes", _TIMES, _OTHER_MACHINE, False, 30),
       _out_of_reach("knn.evolution_minutes.pso", 12 * 60, "minutes", _TIMES,
                     "the number of evaluations behind it is not stated, and the machine is another one"),
       _out_of_reach("knn.training_seconds.128", 45, "seconds", _TIMES,
                     "measured on a graphics card (GTX 1050 Ti); here is none"),
       _out_of_reach("knn.cma.4000.20_epochs", 97.5, "%", "table of accuracies, row 18.8k CMA-ES, 20 epochs",
                     "the search has no epochs; the figure is that of the 5 epochs' column once more"),
       _out_of_reach("knn.pso.4000.20_epochs", 97.3, "%", "table of accuracies, row 18.8k PSO, 20 epochs",
                     "the search has no epochs; the figure is that of the 5 epochs' column once more"),
       _claim("knn.strategies.cma", "slide on CMA-ES", "claims a performance of O(N^2); a full covariance matrix takes "
              "O(N^2) numbers, and its decomposition O(N^3) operations",
              "a complexity, which the strategies' source shows; nothing was timed"),
       _claim("knn.development_time", "problem statement", "asks for a way to shorten the development of a model for "
              "new classes", "the talk measures no development, and neither does this package"),
       _claim("knn.inference_speedup.b1", "future work", "leaves the speed on a Neural Compute Stick 2 open"),
       _claim("knn.baseline.backprop.60000", "conclusion", "claims that the evolved, reduced network is comparable to "
              "one trained by backpropagation; \"reference set size is k\" is a slip for the number of neighbours, "
              "and a figure with three dense layers stands beside a network with two"),
       *_architectures())

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
_MAPS = {(32, 32, 3): "input_1", (32, 32, 64): "z1 bn1 activation", (32, 32, 240): "z2 bn2 activation_1 gunn2d",
         (32, 32, 300): "z3 bn3 activation_2", (16, 16, 300): "avg_pool1 gunn2d_1",
         (16, 16, 360): "z4 bn4 activation_3", (8, 8, 360): "avg_pool2 gunn2d_2 z5 bn5 activation_4",
         (1, 1, 360): "avg_pool3", (360,): "flatten fc1 fc2", (3,): "fc3"}
FIGURE_6_OUTPUTS = {name: shape for shape, names in _MAPS.items() for name in names.split()}  # channels last
_ORIGINAL = "Qiao et al. (ICML 2018), README of their code, row "

_PARTLY_RUN = "the printed recipe is run for 8 of 50 epochs; the text says 100 epochs, then 50, then quotes the 100th"

GUNN = (
    *(Published(f"gunn.params.{name}", count, "parameters", f"figure 6, row {name}")
      for name, count in _FIGURE_6.items()),
    Published("gunn.output_shapes", len(FIGURE_6_OUTPUTS), "layers", "figure 6, column Output Shape"),
    *(_claim(f"gunn.cost_over_sunn.{network}", "sections 1 and 8",
             "claims depth \"without increasing the computation cost\"") for network in ("report", "original")),
    Published("gunn.original.params.15", 1_600_000, "parameters", _ORIGINAL + "GUNN-15", "rounded in print", True,
              50_000),
    Published("gunn.original.params.15_100", 1_600_000, "parameters", _ORIGINAL + "GUNN-15",
              "rounded in print; one figure for CIFAR-10 and CIFAR-100", True, 50_000),
    Published("gunn.original.params.18", 28_900_000, "parameters", _ORIGINAL + "GUNN-18", "rounded in print", True,
              50_000),
    _accuracy("gunn.3class.report.test100", "69.60", "section 6 and section 7, test accuracy after 50 epochs",
              _UNTRACEABLE, False),
    _accuracy("gunn.3class.report.train_last", "72.90", "section 6, training accuracy at epoch 100",
              _TRAINING_FIGURE, False),
    _accuracy("gunn.3class.report.train_best", "76.20", "section 6 and section 7, best training accuracy (epoch 91)",
              _TRAINING_FIGURE, False),
    _out_of_reach("gunn.3class.report.test_loss", 0.87605534954071045, "nats", "section 6, test loss",
                  "a loss of the published label rows, of which 69 in 100 are no class", _UNTRACEABLE),
    _out_of_reach("gunn.3class.report.loss_last", 0.8460, "nats", "section 6, loss at epoch 100", _PARTLY_RUN),
    _out_of_reach("gunn.3class.report.loss_best", 0.8430, "nats", "section 6, loss at epoch 91", _PARTLY_RUN),
    _claim("gunn.early_stopping", "section 7", "claims that early stopping could have helped", _PARTLY_RUN),
    _claim("gunn.checkpoint_agreement", "section 6", "claims that checkpointing of this model is not possible"),
    _claim("gunn.gradients", "section 6 and figure 4's text", "claims that gradients have not vanished or exploded",
           "no gradient was recorded; in training as printed float32 overflowed in the eighth epoch (rows' "
           "largest_running_variance), which contradicts the claim"),
    _accuracy("gunn.10class", "95.85", _ORIGINAL + "GUNN-15, CIFAR-10 error 4.15",
              "300 epochs on four GPUs; their code keeps the epoch with the best test error", images=10_000),
    _accuracy("gunn.10class.as_quoted", "80", "section 7, quoted of the original for 10 classes",
              "not what the original prints: 95.85 for 10 classes, 79.55 for the 100 classes of CIFAR-100; and figures "
              "for 3 and for 10 classes do not compare", False),
)



def _keras_models():
    """The motivation's table of Keras models: accuracies as fractions, and parameter counts."""
    table = {"Xception": (0.790, 0.945), "VGG16": (0.713, 0.901), "VGG19": (0.713, 0.900), "ResNet50": (0.749, 0.921),
             "ResNet101": (0.764, 0.928), "ResNet152": (0.766, 0.931), "ResNet50V2": (0.760, 0.930),
             "ResNet101V2": (0.772, 0.938), "ResNet152V2": (0.780, 0.942), "InceptionV3": (0.779, 0.937),
             "InceptionResNetV2": (0.803, 0.953), "MobileNet": (0.704, 0.895), "MobileNetV2": (0.713, 0.901),
             "DenseNet121": (0.750, 0.923), "DenseNet169": (0.762, 0.932), "DenseNet201": (0.773, 0.936),
             "NASNetMobile": (0.744, 0.919), "NASNetLarge": (0.825, 0.960)}
    counts = (22_910_480, 138_357_544, 143_667_240, 25_636_712, 44_707_176, 60_419_944, 25_613_800, 44_675_560,
              60_380_648, 23_851_784, 55_873_736, 4_253_864, 3_538_984, 8_062_504, 14_307_880, 20_242_984, 5_326_716,
              88_949_818)
    for (name, printed), count in zip(table.items(), counts):
        yield Published(f"exit.keras.{name}.params", count, "parameters", f"motivation, row {name}",
                        "of Keras; ours is the network of that name in GluonCV's zoo",
                        why_not="GluonCV's zoo has no network of that name" if name == "InceptionResNetV2" else "")
        for which, value in zip(("top1", "top5"), printed):
            yield _out_of_reach(f"exit.keras.{name}.{which}", round(100 * value, 1), "%", f"motivation, row {name}",
                                _IMAGENET)


_OTHER_NETWORK = "of a larger EfficientNet, whose weights and split are not at hand; only ratios compare"


def _caltech101():
    """The second table of the talk's experiments, its columns of Caltech-101, beside our small EfficientNet."""
    table = {"rf.first": ("60.10", 176.47), "rf.last": ("91.40", 215.18), "svm.first": ("82.12", 172.72),
             "svm.last": ("95.24", 211.63), "fixed": ("92.07", 178.71), "adaptive": ("94.49", 181.91)}
    for line, (accuracy, milliseconds) in table.items():
        place = f"experiments, second table, {line.replace('.', ', ')}, Caltech-101"
        yield _accuracy(f"exit.{line}.lite0.accuracy", accuracy, place, _OTHER_NETWORK, False)
        yield Published(f"exit.{line}.lite0.ms", milliseconds, "ms", place, _OTHER_NETWORK, False, 0.005)
    yield Published("exit.speedup.lite0.frozen", 1.163, "ratio", "experiments, second table, Caltech-101",
                    "211.63 ms of the last SVM over 181.91 ms; " + _OTHER_NETWORK, False, 0.0005)
    yield Published("exit.loss.lite0.frozen", 0.75, "points", "experiments, second table, Caltech-101",
                    "95.24 of the last SVM less 94.49; " + _OTHER_NETWORK, False, 0.005)


EXIT = (*_keras_models(), *_caltech101(),
        _claim("exit.cut_networks", "conclusion", "claims that the method can be applied with any architecture, and "
               "that it is impossible to exit from one of several parallel layers"),
        _claim("exit.cifar10.speedup", "conclusion", "claims a speed-up of 1.06 to 1.7 times over existing techniques"))

PUBLISHED = (*FUSED, *KNN, *GUNN, *EXIT)

"""Rows of paper 4 from its seeds: single exits, cascades, and what leaving early gains and loses."""
import numpy as np

from mxelm.reporting import results

LINES = ("cascaded", "cdl", "fixed", "adaptive", "risk", "placed")


def rows(run, settings, seeds, lab):
    """Rows of all kept seeds."""
    def row(id, values, unit, better, **conditions):
        return results.over_seeds(f"exit.{id}", values, unit, better, conditions=conditions)

    if run == "cifar10":
        by_risk = [np.mean([s["risk"][name] for s in seeds]) for name in ("speedup", "plain_loss")]
        return [row("cifar10.accuracy", [s["placed"]["accuracy"] for s in seeds], "%", "higher",
                    each_exit=[s["each"] for s in seeds], start="the shipped weights, 20 epochs on CIFAR-10"),
                row("cifar10.speedup", [s["placed"]["speedup"] for s in seeds], "ratio", "higher",
                    reason=f"{settings['epochs']} epochs through all heads, from weights trained through the last; "
                           f"segments' seconds; by the rule risk {by_risk[0]:.2f} times as fast at a loss of "
                           f"{by_risk[1]:.2f} points; scored a second time, bit for bit alike, for the curve; a "
                           "training of six epochs, seed 0, scored before on other 6,000 of them, is not counted",
                    exits=[s["exits"] for s in seeds], risk=[s["risk"]["speedup"] for s in seeds],
                    speedup_and_points_lost_along_the_thresholds=[s["curve"] for s in seeds]),
                row("cifar10.loss", [s["placed"]["plain_loss"] for s in seeds], "points", "lower",
                    risk=[s["risk"]["plain_loss"] for s in seeds])]
    if run == "finetuned":
        return [row("speedup.mobilenet.finetuned", [s["placed"]["speedup"] for s in seeds], "ratio", "higher",
                    reason="segments alone, against the same network's last exit, which three epochs on 20 images a "
                           "class have made worse than the frozen one (exit.svm.last.mobilenet.accuracy)",
                    exits=[s["exits"] for s in seeds],
                    shares=[s["shares"] for s in seeds], risk=[s["risk"]["speedup"] for s in seeds]),
                row("loss.mobilenet.finetuned", [s["placed"]["loss"] for s in seeds], "points", "lower",
                    per_class_of_each_exit=[s["each"] for s in seeds], plain=[s["placed"]["plain_loss"] for s in seeds],
                    risk=[s["risk"]["loss"] for s in seeds])]
    made = [row(f"{kind}.{where}.{run}.accuracy", [s[f"{kind}.{where}"]["accuracy"] for s in seeds], "%", "higher",
                per_class=[s[f"{kind}.{where}"]["per_class"] for s in seeds])
            for kind in ("lr", "rf", "svm", "ridge") for where in ("first", "second", "last")]
    made += [row(f"{line}.{run}.accuracy", [s[line]["accuracy"] for s in seeds], "%", "higher",
                 **{name: [s[line][name] for s in seeds] for name in ("per_class", "loss", "speedup", "left")})
             for line in LINES]
    if run == "lite0":  # the honest alternative: a smaller network, whole
        smaller = [s["svm.last"]["accuracy"] for s in lab.kept("mobilenet")]
        made.append(row("smaller.lite0.accuracy", smaller, "%", "higher", reason="needs the run mobilenet",
                        network="mobilenet run whole, SVM at its last exit"))
    return [*made,
            row(f"speedup.{run}.frozen", [s["placed"]["speedup"] for s in seeds], "ratio", "higher",
                reason=f"segments alone (with decisions: exit.speedup.{run}.end_to_end); most splits' test images had "
                       "been scored before, with thresholds of a path that looked one level ahead",
                exits=[s["exits"] for s in seeds], shares=[s["shares"] for s in seeds],
                risk=[s["risk"]["speedup"] for s in seeds]),
            row(f"loss.{run}.frozen", [s["placed"]["loss"] for s in seeds], "points", "lower",
                plain=[s["placed"]["plain_loss"] for s in seeds], risk=[s["risk"]["loss"] for s in seeds]),
            row(f"curve_area.{run}", [s["area"] for s in seeds], "ratio", "higher")]

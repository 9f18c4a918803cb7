"""Pictures that scripts leave in their folder of work."""
from mxelm.reporting import plots


def learning_curve(path, history):
    """The learning curve: accuracy on the training images (a mean over the epoch), and on those that are watched."""
    names = [name for name in ("accuracy", "validation_accuracy") if name in history[0]]
    plots.curves(path, {name: (range(1, len(history) + 1), [100 * epoch[name] for epoch in history])
                        for name in names}, xlabel="epochs", ylabel="accuracy / %")

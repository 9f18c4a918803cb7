"""Rows of paper 3 from its seeds: what an accuracy stands on, and what gradual updates gain over their control."""
import numpy as np

from lab.beside import pairs
from mxelm.reporting import results

GRADUAL = {"sunn": "plain", "original_sunn": "original"}  # a control -> the gradual run beside it


def rows(run, settings, seeds, lab):
    """Accuracies on all and on the first 100 test images; of a control, what the gradual run gains as well."""
    if run == "ten":
        reason = (f"{settings['epochs']} epochs on a processor, where the original trained 300 on four GPUs, and kept "
                  "the epoch with the best test error")
        return [accuracy("gunn.10class", "test3000", settings, seeds, reason)]
    task = f"gunn.{settings['classes']}class.{run}"
    made = [accuracy(f"{task}.{which}", which, settings, seeds) for which in ("test3000", "test100")]
    return [*made, gain(f"{task}.gain", run, settings, seeds, lab)] if run in GRADUAL else made


def accuracy(id, which, settings, seeds, reason=None):
    """The row of one accuracy, with what each seed has to tell but its curve."""
    told = [{"seed": seed.seed, **{name: value for name, value in seed.figures.items() if name != "history"}}
            for seed in seeds]
    reasons = [reason, *(f"seed {seed.seed} is scored after epoch {len(seed['history'])}, for {seed['ended_by']}"
                         for seed in seeds if "ended_by" in seed.figures)]
    conditions = {**settings, "normalisation": "one scalar" if settings["augmentation"] == "none" else "a channel",
                  "seeds": told, **({"reason": "; ".join(filter(None, reasons))} if any(reasons) else {})}
    return results.over_seeds(id, 100 * np.array([seed[which] for seed in seeds]), "%", "higher",
                              seconds=60 * sum(seed["minutes"] for seed in seeds), conditions=conditions)


def gain(id, run, settings, seeds, lab):
    """Points by which the gradual run with the same seed is better."""
    both = pairs(seeds, lab.kept(GRADUAL[run]))
    gains = [100 * (gradual["test3000"] - control["test3000"]) for control, gradual in both]
    conditions = {**settings, "what": f"points of {GRADUAL[run]} less points of {run}, all test images, seed by seed",
                  "seeds": [control.seed for control, _ in both], "by_seed": gains}
    if len(both) < 3:
        conditions["reason"] = f"{len(both)} seed{'s' * (len(both) != 1)} of both: what there was time for"
    return results.over_seeds(id, gains, "%", "none", conditions=conditions)

"""Paper 5's future scope: recordings that are like a recording, by the maps of a network that looks at spectrograms.

    python experiments/benchmarks/similar_sounds.py digits --seeds 0 1 2 3 4 5    a seed is the speaker left out

Question: does the nearest cached recording say the same digit, when its speaker is another? Protocol: the network is
trained on the recordings of five speakers of the Free Spoken Digit Dataset, which are cached; every recording of the
sixth is a query. Beside it, the plain alternative: means of MFCCs, standardised on the cached recordings, nearest
neighbours among them; k of both is chosen with a cached speaker left out. Source: Anand et al., section 5.
"""
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import feature_maps as lesson
import librosa
import numpy as np
from lab import main

from mxelm import data
from mxelm.data import sounds
from mxelm.feature_maps import Cache
from mxelm.neighbours import nearest, vote
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import results

SPEAKERS = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]
RUNS = {"digits": {"size": 32, "epochs": 8, "batch": 25, "rate": 0.1, "momentum": 0.9, "layer": "relu3_fwd_output",
                   "takes": 20, "mfcc": 20, "k": [1, 3, 5, 9]}}  # takes: recordings of each digit by each speaker
QUICK = {"epochs": 1, "takes": 2}


def one_seed(run, settings, seed, lab):
    """The digit of the nearest cached recordings, by V of the last maps and by means of MFCCs."""
    dataset = data.load("fsdd", root=lab.root)
    names = [name[:-4].split("_") for name in dataset.ids]  # digit_speaker_take.wav
    few = np.array([int(take) < settings["takes"] for _, _, take in names])
    speaker = np.array([SPEAKERS.index(name) for _, name, _ in names])
    others, query = (dataset.take(np.flatnonzero(few & part)) for part in (speaker != seed, speaker == seed))
    inner = speaker[few & (speaker != seed)] == (seed + 1) % len(SPEAKERS)  # chooses k
    preprocessing = Preprocessing((settings["size"],) * 2, "stretch", interpolation="area", scale=1 / 255,
                                  channel_order="GREY")
    net = lesson.trained(others, settings, seed, preprocessing)
    rows = {"maps": [Cache.of(net, part, [settings["layer"]], batch=50).descriptors[settings["layer"]]
                     for part in (others, query)],
            "mfcc": _standardised(*([_mfcc(part, settings["mfcc"]) for part in (others, query)]))}
    figures = {"network": float(np.mean(net.extract(query.module_iter(50, preprocessing, labels=False)).argmax(axis=1)
                                        == query.targets)), "queries": len(query), "cached": len(others)}
    for name, metric in (("maps", "cosine"), ("mfcc", "l2")):
        T, U = rows[name]
        inside = {k: _accuracy(T[~inner], others.targets[~inner], T[inner], others.targets[inner], k, metric)
                  for k in settings["k"]}
        k = max(inside, key=inside.get)
        figures[name] = {"nearest": _accuracy(T, others.targets, U, query.targets, 1, metric), "k": k,
                         "voted": _accuracy(T, others.targets, U, query.targets, k, metric)}
    return figures


def _mfcc(dataset, n):
    """The mean of each of `n` MFCCs over a recording, float64 (recordings, n)."""
    return np.stack([librosa.feature.mfcc(y=dataset.source.samples(i), sr=sounds.RATE, n_mfcc=n, n_fft=sounds.WINDOW,
                                          hop_length=sounds.HOP, n_mels=sounds.MELS).mean(axis=1)
                     for i in dataset.positions])


def _standardised(T, U):
    mean, deviation = T.mean(axis=0), T.std(axis=0)
    return (T - mean) / deviation, (U - mean) / deviation


def _accuracy(T, labels, U, y, k, metric):
    distances, numbers = nearest(U, T, k, metric=metric)
    return float(np.mean(vote(distances, labels[numbers], 10) == y))


def rows(run, settings, seeds, lab):
    def row(id, name):
        return results.over_seeds(id, [100 * s[name]["nearest"] for s in seeds], "%", "higher", conditions={
            **settings, "n": "speakers left out", "k_chosen": [s[name]["k"] for s in seeds],
            "accuracy_with_k": [s[name]["voted"] for s in seeds], "network_itself": [s["network"] for s in seeds]})

    return [row("maps.similar.sounds", "maps"), row("maps.similar.sounds_mfcc", "mfcc")]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)

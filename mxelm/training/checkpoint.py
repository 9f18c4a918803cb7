"""Checkpoints of a training: parameters, optimizer states and their counters, of the last epoch and of the best."""
from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mxelm.containers import fits, load_container, require_same, save_container, understood
from mxelm.errors import FileError, InputError
from mxelm.files import remove_leftovers
from mxelm.runtime import mx

if TYPE_CHECKING:
    import numpy as np

    from mxelm.data.iterators import GluonLoader

log = logging.getLogger(__name__)
KIND = "training-checkpoint"
_REMEMBER = ("LARS", "Nadam")  # more than arrays and counters: numbers, which older checkpoints lack


def identity_of(loader: GluonLoader, forward: Callable, schedule: Callable[[float], float], *, seed: int, epochs: int,
                optimizer: str, settings: dict | None) -> dict:
    """What must be the same for a run to go on, in the form that a checkpoint gives back."""
    return json.loads(json.dumps({
        "seed": seed, "epochs": epochs, "optimizer": optimizer, "settings": settings or {}, "batches": len(loader),
        "forward": getattr(forward, "__qualname__", type(forward).__qualname__),
        "data": getattr(loader, "identity", None), "learning rates": [schedule(i / 16) for i in range(17)]
    }, default=float))


def begin(checkpoint: str | os.PathLike, network: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer, identity: dict, *,
          resume: bool, ctx: mx.Context | None) -> list[dict]:
    """The history to go on from; [] for a new run, which removes older checkpoints at the same path."""
    if type(trainer._optimizer).__name__ == "LBSGD":
        raise InputError("lbsgd keeps gradients between its steps, which no checkpoint holds: take another optimizer")
    for old in (checkpoint, f"{checkpoint}.best"):
        remove_leftovers(old)
        if not resume:
            Path(old).unlink(missing_ok=True)
    if not Path(checkpoint).exists():
        return []
    history = _restore(checkpoint, network, trainer, identity, ctx)
    log.info("resumed %s after epoch %d", checkpoint, len(history))
    return history


def load_parameters(network: mx.gluon.HybridBlock, path: str | os.PathLike,
                    ctx: mx.Context | None = None) -> list[dict]:
    """Put the parameters of a checkpoint (`...` or `....best`) into `network`; return its history."""
    meta, arrays = load_container(path, KIND)
    _set_parameters(network, arrays, path, ctx)
    return meta["history"]


def parameters_of(network: mx.gluon.HybridBlock) -> dict[str, np.ndarray]:
    """The arrays of all parameters by name.

    MXNet's own thread copies them first: validation leaves weights in oneDNN's layouts, which asnumpy() would undo with
    OpenMP in this thread. Both threads then have teams, more threads than cores, so OpenMP no longer spins at its
    barriers, and training on two cores would take twice the time from then on.
    """
    return {f"parameter.{name}": p.data().copy().asnumpy() for name, p in network._collect_params_with_prefix().items()}


def _set_parameters(network, arrays, path, ctx):
    parameters = network._collect_params_with_prefix()
    for name, parameter in parameters.items():
        saved = arrays.get(f"parameter.{name}")
        wanted = parameter.data().shape if parameter.shape is None else parameter.shape  # None in a SymbolBlock
        if saved is None or not fits(saved.shape, wanted):
            found = "nothing" if saved is None else f"shape {saved.shape}"
            raise FileError(f"{path} is of another network: {name} of shape {wanted} is wanted, it holds {found}")
    foreign = {name for name in arrays if name.startswith("parameter.")} - {f"parameter.{name}" for name in parameters}
    if foreign:
        raise FileError(f"{path} is of another network: it holds {min(foreign)[len('parameter.'):]}, not wanted here")
    for name, parameter in parameters.items():
        saved = arrays[f"parameter.{name}"]
        parameter._load_init(mx.nd.array(saved, dtype=saved.dtype), ctx, cast_dtype=True)  # deferred ones too


def save(path: str | os.PathLike, network: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer, meta: dict) -> None:
    """Parameters, optimizer states and their counters; MXNet's own `save_states` would pickle them."""
    updater, optimizer = trainer._updaters[0], trainer._optimizer
    arrays = parameters_of(network)
    for index, state in updater.states.items():
        for part, array in enumerate(_parts(state)):
            arrays[f"optimizer.{index}.{part}"] = array.asnumpy()
    meta = {**meta, "num_update": optimizer.num_update, "optimizer_numbers": _numbers(optimizer),
            "update_counts": {str(k): v for k, v in optimizer._index_update_count.items()}}
    save_container(path, KIND, meta, arrays)


def _restore(path, network, trainer, identity, ctx):
    meta, arrays = load_container(path, KIND)
    if "num_update" not in meta:
        raise FileError(f"{path} holds parameters alone, those of the best epoch: resume from the checkpoint beside it")
    require_same(meta, identity, path)
    _set_parameters(network, arrays, path, ctx)
    with understood(path):
        _set_optimizer(trainer, meta, arrays, ctx)
    return meta["history"]


def _set_optimizer(trainer, meta, arrays, ctx):
    optimizer, updater = trainer._optimizer, trainer._updaters[0]
    numbers = meta.get("optimizer_numbers", {})
    if not numbers and type(optimizer).__name__ in _REMEMBER:
        raise ValueError(f"it lacks what {type(optimizer).__name__} remembers between steps; begin anew")
    vars(optimizer).update({name: value for name, value in numbers.items() if name in _numbers(optimizer)})
    optimizer.num_update = meta["num_update"]
    counts = {int(k): v for k, v in meta["update_counts"].items()}
    optimizer._index_update_count.clear()
    optimizer._index_update_count.update(counts)
    for index in counts:
        weight = trainer._params[index].data()
        updater.states[index] = optimizer.create_state_multi_precision(index, weight)
        updater.states_synced[index] = True
        for part, array in enumerate(_parts(updater.states[index])):
            saved = arrays.take(f"optimizer.{index}.{part}", array.shape)
            array[:] = mx.nd.array(saved, ctx=ctx, dtype=saved.dtype)


def _numbers(optimizer):
    """What an optimizer remembers beside its states: attributes that are numbers, such as LARS' last learning rate."""
    return {name: value for name, value in vars(optimizer).items() if value is None or isinstance(value, (int, float))}


def _parts(state):
    """The NDArrays of an optimizer's state, which is nothing, an NDArray, or a nest of tuples of them."""
    if state is None:
        return []
    if isinstance(state, (tuple, list)):
        return [array for part in state for array in _parts(part)]
    return [state]

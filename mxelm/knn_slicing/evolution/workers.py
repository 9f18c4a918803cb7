"""`map` over processes, for a function that holds much data.

The function (a KernelFitness's `evaluate`, with its images) is sent to each worker once; tasks are small. Results come
in the order of the tasks and are those of one process, bit for bit.
"""
from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from mxelm.errors import EnvironmentProblem

_function = None  # in a worker process


class Processes:
    """`map` over so many processes of this machine; a context manager.

    Raises EnvironmentProblem if one of them dies, for example without memory.
    """

    def __init__(self, count: int) -> None:
        self.count, self._pool, self._sent = count, None, None

    def __call__(self, function: Callable, tasks: Sequence) -> list:
        if self._sent != function:
            self.close()
            # spawned, not forked: the threads of MXNet and of BLAS do not survive a fork
            self._pool = ProcessPoolExecutor(self.count, multiprocessing.get_context("spawn"), _install, (function,))
            self._sent = function
        try:
            return list(self._pool.map(_call, tasks))
        except BrokenProcessPool:
            raise EnvironmentProblem("a worker process died, perhaps because memory ran out: take fewer, and resume"
                                     ) from None

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = self._sent = None

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _install(function):
    global _function
    _function = function


def _call(task):
    return _function(task)

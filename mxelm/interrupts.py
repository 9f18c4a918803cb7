"""Ctrl-C and SIGTERM held back until work is at a point where it can be kept."""
from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The end of work by a signal. `number`: the signal's. Its text, where there is one, says what was kept."""

    def __init__(self, number: int, kept: str = "") -> None:
        super().__init__(kept)
        self.number = number


@contextlib.contextmanager
def held_back() -> Iterator[list[int]]:
    """Yield a list to which the number of each SIGINT and SIGTERM is added, instead of ending the block.

    The block looks at the list where it can stop; a second signal ends it at once by Interrupted. Signals reach the
    main thread alone: in any other the list stays empty.
    """
    seen = []

    def note(number, frame):
        if seen:
            raise Interrupted(number)
        seen.append(number)

    with handled(note):
        yield seen


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, by an exception: what cleans up after itself does so."""
    def end(number, frame):
        raise Interrupted(number)

    with handled(end, (signal.SIGTERM,)):
        yield


@contextlib.contextmanager
def handled(handler: Callable, signals: Sequence[int] = SIGNALS) -> Iterator[None]:
    """The block with `handler` for these signals; in the main thread alone, which is where Python runs handlers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

"""Pickles of strangers, read without running anything that they ask to run.

A pickle is a program. Here it runs on a machine that knows the few instructions by which numbers, texts and
dictionaries are written, and to which the things it names are stand-ins that only write down what was said; whether
that makes sense is checked afterwards, on plain numbers: what came out of a stranger's pickle is not hashed, compared
or printed before its type is known, as a few bytes can describe a tuple of 2^45 parts.
Time and memory are bounded: the unpickler is the one written in Python, whose memo is a dictionary (the one in C keeps
an array as long as the highest number in the pickle, so that five bytes can ask for 32 GB), keys are texts, no
instruction makes anything longer than its own bytes, and the number of steps has an end.
"""
from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import Any, BinaryIO

MOST_STEPS = 1_000_000  # a second or two; a network of 1,000 layers takes 100,000
_INSTRUCTIONS = (
    pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT,
    pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT, pickle.BINSTRING,
    pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINUNICODE, pickle.SHORT_BINUNICODE,
    pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS,
    pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.GLOBAL, pickle.STACK_GLOBAL,
    pickle.REDUCE, pickle.BUILD, pickle.BINPERSID, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE,
    pickle.GET, pickle.BINGET, pickle.LONG_BINGET)


class StandIn:
    """Base of what stands for a thing that a pickle names: the pickle cannot change it, nor set what it is made of."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Ignore the state; also keeps the pickle from setting attributes of the class itself."""


class Names(StandIn, dict):
    """A dictionary whose keys are texts or bytes; stands for collections.OrderedDict too."""

    __slots__ = ()

    def __init__(self, items: Iterable = ()) -> None:
        super().__init__()
        for key, value in items:
            self[key] = value

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, (str, bytes)):
            raise ValueError("it names something in a dictionary, a tensor or an array, by what is no text")
        super().__setitem__(key, value)


class Unpickler(pickle._Unpickler):
    """An unpickler to which only `names` exist, a dict of (module, name) -> stand-in.

    Raises nearly any kind of exception for what is damaged, and ValueError for what is not allowed.
    """

    def __init__(self, file: BinaryIO, names: dict, encoding: str = "ASCII") -> None:
        super().__init__(_Counted(file), encoding=encoding)
        self.names = names

    dispatch = {code[0]: pickle._Unpickler.dispatch[code[0]] for code in _INSTRUCTIONS}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.names:
            raise ValueError(f"it asks for {module}.{name}")
        return self.names[module, name]

    def _load_empty_dict(self):
        self.append(Names())

    def _load_frame(self):
        """What a frame holds follows in any case."""
        self.read(8)

    dispatch[pickle.EMPTY_DICT[0]] = _load_empty_dict
    dispatch[pickle.FRAME[0]] = _load_frame


class _Counted:
    """A file that is read in at most MOST_STEPS steps."""

    def __init__(self, file):
        self._file, self._steps = file, 0

    def read(self, size):
        self._step()
        return self._file.read(size)

    def readline(self):
        self._step()
        return self._file.readline(1000)

    def _step(self):
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise ValueError("it takes more steps than any file of its kind")

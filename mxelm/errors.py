"""The one exception type of the package and its kinds, and the two checks of arguments that all rooms make."""
from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any


class MxelmError(Exception):
    """Base of every error mxelm raises on purpose: one sentence that names what is wrong and what to do."""


class InputError(MxelmError, ValueError):
    """A value, shape, option or file content that cannot be used."""


class FileError(MxelmError, OSError):
    """A file or folder that is missing, damaged, foreign, or cannot be written."""


class EnvironmentProblem(MxelmError, RuntimeError):
    """A Python, NumPy, MXNet, platform or system library that cannot work."""


def require_choice(name: str, value: Any, choices: Iterable) -> Any:
    """`value`, one of `choices`; InputError names the argument, what was got and what there is."""
    if value not in choices:
        raise InputError(f"{name} {value!r} is not known: use {_listed(choices)}")
    return value


def require_whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """`value` as an int, a whole number (of NumPy's too) from `least` to `most`; InputError names the argument."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limits = f"from {least} to {most}" if most is not None else f"of at least {least}"
        raise InputError(f"{name} must be a whole number {limits}, got {value!r}")
    return int(value)


def _listed(choices):
    *most, last = map(str, choices)
    return f"{', '.join(most)} or {last}" if most else last

"""The one exception type of the package and its two kinds."""


class MxelmError(Exception):
    """Base of every error mxelm raises on purpose: one sentence that names what is wrong and what to do."""


class InputError(MxelmError, ValueError):
    """A value, shape, option or file content that cannot be used."""


class FileError(MxelmError, OSError):
    """A file or folder that is missing, damaged, foreign, or cannot be written."""


class EnvironmentProblem(MxelmError, RuntimeError):
    """A Python, NumPy, MXNet, platform or system library that cannot work."""

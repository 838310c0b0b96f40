"""Errors that a user can act on: the message names the value, the rule and the remedy.

The command prints these as one line; any other exception is a defect of mlip and keeps its traceback.
Each child keeps the builtin class that callers of the Python API catch.
"""

import math


class MlipError(Exception):
    """Base class of all errors raised on purpose."""


class InputError(MlipError, ValueError):
    """Invalid input: a config value, a label, a structure, a file's content."""


class MissingFileError(InputError, FileNotFoundError):
    """Missing file or folder."""


class UnknownNameError(InputError, KeyError):
    """Name that a file, a table or a config does not have."""

    __str__ = Exception.__str__  # KeyError's would put the message in quotes


class FolderInUseError(InputError, FileExistsError):
    """Folder that holds something else, or that another process works in."""


class StorageError(MlipError, OSError):
    """Disk that is full, or may not be written to."""


class ConvergenceError(MlipError, RuntimeError):
    """An iteration that did not reach its tolerance."""


class DivergedError(MlipError, FloatingPointError):
    """A training whose gradients are not finite any more."""


class LabellingError(MlipError, RuntimeError):
    """A structure got no label; the message says why and what helps. `retryable`: another attempt may succeed."""

    def __init__(self, message: str, retryable: bool = False):
        super().__init__(message)
        self.retryable = retryable


class GuardStop(MlipError, RuntimeError):
    """Dynamics was stopped; the message says what left which limit, when, and where the frames are.

    time_fs   of the step that was refused
    """

    def __init__(self, message: str, time_fs: float = math.nan):
        super().__init__(message)
        self.time_fs = time_fs

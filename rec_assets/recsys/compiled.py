"""Functions compiled to machine code by numba, for loops that would call numpy too often or on too much data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile a function of arrays and numbers at its first call. Indexes are not checked, and must not be negative.

    Other threads run meanwhile, such as those of other requests to the API.

    The machine code is kept in `__pycache__`, in the user's cache folder or in NUMBA_CACHE_DIR, for later processes.
    Where no such folder can be written, each process compiles again. A function must not call a compiled one of another
    module, because a change there would not be noticed.
    """
    try:
        result: Function = numba.njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # no folder for the machine code
        result = numba.njit(function, nogil=True, error_model="numpy")
    return result

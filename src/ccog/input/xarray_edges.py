"""All uses of private parts of xarray. Checked with xarray 2025.1 and 2026.9.

Each says what it relies on, and what breaks without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from dask.base import tokenize

from ccog.input.source import file_stamp


def is_read_lazily(arr: Any) -> bool:
    """Whether the values of an array without chunks are still in a file.

    It relies on ``Variable._in_memory``, ``Variable._data`` and ``indexing.ExplicitlyIndexed``, the
    base of what backends of xarray read. The public ``Variable.data`` would read all. Without them,
    files would be read whole.
    """
    variable = getattr(arr, "variable", None)
    if variable is None or variable._in_memory:
        return False
    from xarray.core.indexing import ExplicitlyIndexed

    return isinstance(variable._data, ExplicitlyIndexed)


def token_of_file(arr: Any) -> str:
    """A name for the values of such an array: the same at each run while its file stays.

    It relies on the ``array`` and the ``key`` of xarray's lazy arrays, which say what part of the
    file it is. Without a file that can be named, the values are read.
    """
    source = arr.encoding.get("source")
    stamp = None if source is None else file_stamp(str(source))
    if stamp is None:
        return str(tokenize(arr.to_numpy()))
    layers, data = [], arr.variable._data
    while data is not None and not isinstance(data, np.ndarray):
        layers.append(repr(getattr(data, "key", None)))
        data = getattr(data, "array", None)
    return str(tokenize(str(source), stamp, arr.name, arr.shape, str(arr.dtype), layers))

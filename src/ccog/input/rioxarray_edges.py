"""All uses of private parts of rioxarray. Checked with rioxarray 0.19.0 and 0.23.0.

Each says what it relies on, and what breaks without it. rioxarray may not be installed: arrays then
have no ``rio``.
"""

from __future__ import annotations

from typing import Any, Literal


def chosen_dimension(arr: Any, axis: Literal["y", "x"]) -> Any:
    """The dimension that a user chose for an axis with ``rio.set_spatial_dims``, or None.

    It relies on ``rio._y_dim`` and ``rio._x_dim``, which the public ``rio.y_dim`` and ``rio.x_dim``
    return, but raise an error where there is none. Without them, arrays with unusual names of
    dimensions would be refused.
    """
    return getattr(getattr(arr, "rio", None), f"_{axis}_dim", None)


def chosen_crs(arr: Any) -> Any:
    """The CRS that a user chose with the deprecated ``rio.set_crs``, or None.

    It relies on ``rio._crs``, which the public ``rio.crs`` returns, but raises an error where an
    attribute cannot be read. Without it, arrays whose CRS stands nowhere else would lose it.
    """
    return getattr(getattr(arr, "rio", None), "_crs", None) or None


def chosen_nodata(arr: Any) -> Any:
    """The nodata value that a user chose with ``rio.set_nodata``, or None.

    It relies on ``rio._nodata``, which the public ``rio.nodata`` returns, but else reads attributes
    with errors of its own. Without it, values set so would be lost.
    """
    chosen = getattr(getattr(arr, "rio", None), "_nodata", None)
    return None if chosen is False else chosen

"""The xarray accessors: ``da.ccog.write(...)`` and ``ds.ccog.write(...)``; registered once xarray is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ccog.api import write_ccog
from ccog.errors import ArgumentTypeError, DtypeError, RasterError


class DataArrayAccessor:
    """Writing a DataArray; ``da.ccog``."""

    def __init__(self, arr: Any) -> None:
        self._arr = arr

    def write(
        self,
        store: Any = None,
        *,
        mask: Any = None,
        storage_options: Mapping[str, Any] | None = None,
        rasterio_env_options: Mapping[str, Any] | None = None,
        compute: bool = True,
        **options: Any,
    ) -> Any:
        """Write the array as ONE Cloud Optimised GeoTIFF; see :func:`ccog.write_ccog`.

        Parameters
        ----------
        store
            Local path or URL; None gives the file as bytes.
        mask, storage_options, rasterio_env_options
            As :func:`ccog.write_ccog` takes them.
        compute
            Write now, the default; False returns the Delayed.
        **options
            Creation options of GDAL's COG driver and metadata, in any case: ``compress="zstd"``, ``nodata=0``, ...

        Returns
        -------
        bytes, ccog.WriteResult or dask.delayed.Delayed
            The file, what was written, or with ``compute=False`` what will write it.
        """
        return write_ccog(
            self._arr,
            store,
            mask=mask,
            COG_creation_options=options,
            storage_options=storage_options,
            rasterio_env_options=rasterio_env_options,
            compute=compute,
        )


class DatasetAccessor:
    """Writing the variables of a Dataset as bands of one file; ``ds.ccog``."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def write(self, store: Any = None, **arguments: Any) -> Any:
        """Write the variables, in their order, as the bands of ONE Cloud Optimised GeoTIFF.

        Variables without two dimensions, such as ``spatial_ref``, are left out; the others must agree in shape, dtype
        and nodata value. Their names become the band descriptions, unless ``descriptions`` is given.

        Parameters
        ----------
        store
            Local path or URL; None gives the file as bytes.
        **arguments
            As ``DataArray.ccog.write`` takes them.

        Returns
        -------
        bytes, ccog.WriteResult or dask.delayed.Delayed
            The file, what was written, or with ``compute=False`` what will write it.

        Raises
        ------
        ccog.RasterError, ccog.DtypeError
            The variables do not agree.
        """
        given = {key.lower() for key in arguments}
        names, arr, nodata = _as_bands(self._dataset, nodata_given="nodata" in given)
        if "descriptions" not in given:
            arguments["descriptions"] = names
        if "nodata" not in given and nodata is not None:
            arguments["nodata"] = nodata
        return DataArrayAccessor(arr).write(store, **arguments)


def _as_bands(dataset: Any, *, nodata_given: bool) -> tuple[list[str], Any, Any]:
    """Names of the rasters in a dataset, all of them as one (band, y, x) array, and their nodata value."""
    rasters = {name: arr for name, arr in dataset.data_vars.items() if arr.ndim >= 2}
    if not rasters:
        raise ArgumentTypeError(f"the dataset has no variable of (y, x): {sorted(map(str, dataset.data_vars))}")
    _agree("dimensions", {name: arr.dims for name, arr in rasters.items()}, RasterError, "write them apart")
    if next(iter(rasters.values())).ndim > 2:
        raise RasterError(
            f"the variables have dimensions {next(iter(rasters.values())).dims}; write one raster at a time, "
            "e.g. ds.isel(time=0).ccog.write(...)"
        )
    _agree("dtypes", {name: arr.dtype for name, arr in rasters.items()}, DtypeError, "cast them: ds.astype('float32')")
    nodata = {name: _nodata(arr) for name, arr in rasters.items()}
    if not nodata_given:
        _agree("nodata values", nodata, RasterError, "say nodata=...")
    first = next(iter(rasters.values()))
    arr = dataset[list(rasters)].to_dataarray("band")
    mapping = first.encoding.get("grid_mapping") or first.attrs.get("grid_mapping")
    if mapping is not None:
        arr.encoding["grid_mapping"] = mapping
    return [str(name) for name in rasters], arr, next(iter(nodata.values()))


def _agree(what: str, values: Mapping[Any, Any], kind: type[Exception], remedy: str) -> None:
    # as text, since NaN is unequal to itself
    if len({str(value) for value in values.values()}) > 1:
        listed = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise kind(f"the {what} of the variables differ ({listed}); one file has one, so {remedy}")


def _nodata(arr: Any) -> Any:
    try:
        import rioxarray  # noqa: F401
    except ImportError:
        return arr.attrs.get("_FillValue")
    return arr.rio.nodata


def register(xarray: Any) -> None:
    """Add the accessors to xarray; called when xarray is imported, before or after ccog."""
    xarray.register_dataarray_accessor("ccog")(DataArrayAccessor)
    xarray.register_dataset_accessor("ccog")(DatasetAccessor)

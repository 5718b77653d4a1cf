"""The xarray accessors ``da.ccog`` and ``ds.ccog``; registered once xarray is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccog.geometry.file_order import FileLayout
    from ccog.views.plan.report import CogPlan


class Accessor:
    """Writes or plans a DataArray, or the variables of a Dataset as bands."""

    def __init__(self, arr: Any) -> None:
        self._arr = arr

    def write(
        self,
        store: Any = None,
        *,
        mask: Any = None,
        COG_creation_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        rasterio_env_options: Mapping[str, Any] | None = None,
        layout: FileLayout = "gdal",
        resume: bool = False,
        compute: bool = True,
        **options: Any,
    ) -> Any:
        """Write the array, or the variables as bands, as ONE Cloud Optimised GeoTIFF.

        See :func:`ccog.write_ccog`.

        Parameters
        ----------
        store
            Local path or URL; None gives the file as bytes.
        mask, COG_creation_options, storage_options, rasterio_env_options, layout, resume
            As :func:`ccog.write_ccog` takes them.
        compute
            Write now, the default; False returns the Delayed.
        **options
            Creation options of GDAL's COG driver and metadata, in any case: ``compress="zstd"``,
            ``nodata=0``, ...

        Returns
        -------
        bytes, ccog.WriteResult or dask.delayed.Delayed
            The file; where it was written; or with ``compute=False`` the Delayed that writes it.
        """
        # not with the module: dask.array imports xarray, and with it this, before it is whole
        from ccog.api import write_ccog
        from ccog.redaction import addressed, hidden

        store, storage_options = addressed(store), hidden(storage_options)
        rasterio_env_options = hidden(rasterio_env_options)
        return write_ccog(
            self._arr,
            store,
            mask=mask,
            COG_creation_options=COG_creation_options,
            storage_options=storage_options,
            rasterio_env_options=rasterio_env_options,
            layout=layout,
            resume=resume,
            compute=compute,
            **options,
        )

    def plan(
        self,
        store: Any = None,
        *,
        mask: Any = None,
        COG_creation_options: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        rasterio_env_options: Mapping[str, Any] | None = None,
        layout: FileLayout = "gdal",
        sample: int = 0,
        **options: Any,
    ) -> CogPlan:
        """Say what :meth:`write` would write with the same arguments, and what that would cost.

        Parameters
        ----------
        store, mask, COG_creation_options, storage_options, rasterio_env_options, layout
            As for :meth:`write`.
        sample
            How many blocks to compute and compress, for a better guess at sizes and memory.
        **options
            Creation options and metadata, in any case.

        Returns
        -------
        ccog.CogPlan
            See :func:`ccog.plan`. Only the pixels of a sample are computed, and the store is not
            asked anything.
        """
        from ccog.api import plan
        from ccog.redaction import addressed, hidden

        store, storage_options = addressed(store), hidden(storage_options)
        rasterio_env_options = hidden(rasterio_env_options)
        return plan(
            self._arr,
            store,
            mask=mask,
            COG_creation_options=COG_creation_options,
            storage_options=storage_options,
            rasterio_env_options=rasterio_env_options,
            layout=layout,
            sample=sample,
            **options,
        )


def register(xarray: Any) -> None:
    """Add the accessors to xarray; called when xarray is imported, before or after ccog."""
    xarray.register_dataarray_accessor("ccog")(Accessor)
    xarray.register_dataset_accessor("ccog")(Accessor)

"""Write the variables of an xarray Dataset as bands, by the accessor."""

import dask.array as da
import numpy as np
import rioxarray  # adds .rio
import xarray as xr

import ccog

coords = {"y": 6_000_000 - 5 - 10 * np.arange(1500), "x": 500_000 + 5 + 10 * np.arange(2000)}
random = da.random.default_rng(0)
ds = xr.Dataset(
    {
        name: (("y", "x"), random.integers(1, 4000, (1500, 2000), chunks=512).astype("uint16"))
        for name in ("red", "green", "nir")
    },
    coords,
).rio.write_crs("EPSG:32755")

ds.ccog.write("bands.tif", compress="zstd", nodata=0)  # three bands, named after the variables
ds.red.ccog.write("red.tif", compress="zstd")  # one band

print(ccog.validate("bands.tif"))

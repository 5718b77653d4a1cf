import dask

import ccog

steps = range(series.sizes["time"])
dask.compute([ccog.write_ccog(series.isel(time=n), f"{n}.tif") for n in steps])

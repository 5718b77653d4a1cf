import dask
from odc.geo.cog import save_cog_with_dask

steps = range(series.sizes["time"])
dask.compute([save_cog_with_dask(series.isel(time=n), f"{n}.tif") for n in steps])

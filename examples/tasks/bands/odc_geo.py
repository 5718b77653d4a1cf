import odc.geo.xr
from odc.geo.cog import save_cog_with_dask

arr = ds.to_array("band").odc.assign_crs(ds.odc.crs)
save_cog_with_dask(arr, "out.tif", compression="deflate").compute()

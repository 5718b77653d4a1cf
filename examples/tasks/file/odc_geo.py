import rioxarray
from odc.geo.cog import save_cog_with_dask

arr = rioxarray.open_rasterio("in.tif", chunks=512)
save_cog_with_dask(arr, "out.tif", compression="deflate").compute()

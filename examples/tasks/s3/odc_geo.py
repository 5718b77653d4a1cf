from odc.geo.cog import save_cog_with_dask

save_cog_with_dask(arr, "s3://test/out.tif", compression="deflate").compute()

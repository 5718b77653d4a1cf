from odc.geo.cog import save_cog_with_dask

options = {"compression": "deflate", "predictor": True, "overview_resampling": "average"}
save_cog_with_dask(arr, "out.tif", **options).compute()

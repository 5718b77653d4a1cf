import rioxarray

options = {"compress": "deflate", "predictor": "yes", "overview_resampling": "average"}
arr.rio.to_raster("out.tif", driver="COG", num_threads="ALL_CPUS", **options)

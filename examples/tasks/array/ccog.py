import ccog

options = {"compress": "deflate", "predictor": "yes", "overview_resampling": "average"}
ccog.write_ccog(arr, "out.tif", COG_creation_options=options).compute()

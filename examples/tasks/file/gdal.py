import rasterio.shutil

rasterio.shutil.copy("in.tif", "out.tif", driver="COG", compress="deflate", num_threads="ALL_CPUS")

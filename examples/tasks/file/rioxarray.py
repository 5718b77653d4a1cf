import rioxarray

arr = rioxarray.open_rasterio("in.tif")
arr.rio.to_raster("out.tif", driver="COG", compress="deflate", num_threads="ALL_CPUS")

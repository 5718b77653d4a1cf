import rioxarray

ds.rio.to_raster("out.tif", driver="COG", compress="deflate")

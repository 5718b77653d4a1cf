import ccog

ds.ccog.write("out.tif", compress="deflate")

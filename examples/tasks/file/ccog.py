import ccog

ccog.write_ccog("in.tif", "out.tif", compress="deflate").compute()

import ccog

ccog.write_ccog(arr, "s3://test/out.tif", compress="deflate").compute()

"""Write to a small S3 server on this machine, which is started for it: needs ccog[demo]."""

import dask.array as da

import ccog
from ccog.local_s3 import local_s3

with local_s3() as storage_options, ccog.progress():
    pixels = (
        da.random.default_rng(0).integers(0, 10_000, (4096, 4096), chunks=1024).astype("uint16")
    )
    url = "s3://test/example.tif"
    print(ccog.write_ccog(pixels, url, storage_options=storage_options).compute())
    print(ccog.inspect(url, storage_options))

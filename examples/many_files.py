"""Write several files of one source in one graph: each pixel of the source is made once."""

import dask
import dask.array as da

import ccog

source = da.random.default_rng(0).integers(0, 10_000, (2048, 2048), chunks=1024).astype("uint16")
files = {
    "raw.tif": source,
    "scaled.tif": (source / 10_000).astype("float32"),
    "cloud.tif": (source > 9_000),
}

results = dask.compute([ccog.write_ccog(arr, name) for name, arr in files.items()])[0]
for result in results:
    print(result)

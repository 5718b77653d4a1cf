"""Look at a COG as a table and as a picture, and check it."""

import dask.array as da

import ccog
from ccog import demo

pixels = demo.terrain(4096)
pixels = da.where(pixels > pixels.mean(), pixels, 0).astype("uint16")
options = {
    "compress": "deflate",
    "predictor": "yes",
    "sparse_ok": "yes",
    "crs": demo.CRS,
    "transform": demo.TRANSFORM,
}
ccog.write_ccog(pixels, "look.tif", COG_creation_options=options).compute()

found = ccog.inspect("look.tif")
print(found)
found.save_svg("look.svg")

verdict = ccog.validate("look.tif")
print(verdict)
assert verdict.is_valid

"""Write a NumPy array to a local COG, and look at it."""

import numpy as np
from rasterio import Affine

import ccog

y, x = np.mgrid[0:1500, 0:2000]
elevation = (1000 + 300 * np.sin(x / 90) + 200 * np.cos(y / 70)).astype("uint16")

writer = ccog.write_ccog(
    elevation,
    "elevation.tif",
    COG_creation_options={
        "compress": "deflate",
        "predictor": "yes",
        "crs": "EPSG:32755",
        "transform": Affine(10, 0, 500_000, 0, -10, 6_000_000),
        "descriptions": ["elevation"],
        "units": "m",
    },
)
result = writer.compute()

print(result)
print(ccog.inspect("elevation.tif"))

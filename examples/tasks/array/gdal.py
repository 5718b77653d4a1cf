import rasterio

options = {"compress": "deflate", "predictor": "yes", "overview_resampling": "average"}
with rasterio.open(
    "out.tif",
    "w",
    driver="COG",
    width=arr.sizes["x"],
    height=arr.sizes["y"],
    count=1,
    dtype=arr.dtype,
    crs=arr.rio.crs,
    transform=arr.rio.transform(),
    nodata=arr.rio.nodata,
    num_threads="ALL_CPUS",
    **options,
) as target:
    target.write(arr.values, 1)

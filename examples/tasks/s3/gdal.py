import rasterio

with (
    rasterio.Env(CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE=True),
    rasterio.open(
        "/vsis3/test/out.tif",
        "w",
        driver="COG",
        width=arr.sizes["x"],
        height=arr.sizes["y"],
        count=1,
        dtype=arr.dtype,
        crs=arr.rio.crs,
        transform=arr.rio.transform(),
        nodata=arr.rio.nodata,
        compress="deflate",
    ) as target,
):
    target.write(arr.values, 1)

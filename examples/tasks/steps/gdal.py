import rasterio

for n in range(series.sizes["time"]):
    with rasterio.open(
        f"{n}.tif",
        "w",
        driver="COG",
        width=series.sizes["x"],
        height=series.sizes["y"],
        count=1,
        dtype=series.dtype,
        crs=series.rio.crs,
        transform=series.rio.transform(),
        nodata=series.rio.nodata,
    ) as target:
        target.write(series.isel(time=n).values, 1)

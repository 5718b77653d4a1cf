import rasterio

with rasterio.open(
    "out.tif",
    "w",
    driver="COG",
    width=ds.sizes["x"],
    height=ds.sizes["y"],
    count=len(ds.data_vars),
    dtype=ds.red.dtype,
    crs=ds.rio.crs,
    transform=ds.rio.transform(),
    nodata=ds.red.rio.nodata,
    compress="deflate",
) as target:
    for band, name in enumerate(ds.data_vars, 1):
        target.write(ds[name].values, band)
        target.set_band_description(band, name)

import rasterio
from rio_cogeo import cog_profiles, cog_translate

with rasterio.MemoryFile() as memory:
    with memory.open(
        driver="GTiff",
        width=ds.sizes["x"],
        height=ds.sizes["y"],
        count=len(ds.data_vars),
        dtype=ds.red.dtype,
        crs=ds.rio.crs,
        transform=ds.rio.transform(),
        nodata=ds.red.rio.nodata,
    ) as source:
        for band, name in enumerate(ds.data_vars, 1):
            source.write(ds[name].values, band)
            source.set_band_description(band, name)
    with memory.open() as source:
        cog_translate(source, "out.tif", cog_profiles.get("deflate"), quiet=True)

import rasterio
from rio_cogeo import cog_profiles, cog_translate

profile = cog_profiles.get("deflate") | {"predictor": 2}
with rasterio.MemoryFile() as memory:
    with memory.open(
        driver="GTiff",
        width=arr.sizes["x"],
        height=arr.sizes["y"],
        count=1,
        dtype=arr.dtype,
        crs=arr.rio.crs,
        transform=arr.rio.transform(),
        nodata=arr.rio.nodata,
    ) as source:
        source.write(arr.values, 1)
    with memory.open() as source:
        cog_translate(source, "out.tif", profile, overview_resampling="average", quiet=True)

from rio_cogeo import cog_profiles, cog_translate

cog_translate("in.tif", "out.tif", cog_profiles.get("deflate"), quiet=True)

"""Options of gdal_translate and rio cogeo that ccog does not have, and what to type instead."""

from __future__ import annotations

import click

from ccog.cli.options import GroupedCommand

_REPROJECT = (
    "ccog does not reproject: first gdalwarp -of VRT -t_srs EPSG:3857 INPUT web.vrt, then "
    "ccog create web.vrt OUTPUT --co TILING_SCHEME=GoogleMapsCompatible, "
    "whose error says on which grid it must lie"
)
_TRANSLATE = "first gdal_translate -of VRT {name} ... INPUT in.vrt, then ccog create in.vrt OUTPUT"
_NEEDLESS = "leave it out: ccog writes COGs only, and needs no copy of the raster on the way"
_TAGS = "leave it out: all tags are kept unless --no-tags is given"

_OF_REPROJECTION = (
    *("--web-optimized", "-w", "-t_srs", "--resampling"),
    *("--zoom-level", "--zoom-level-strategy", "--aligned-levels"),
)
_OF_TRANSLATE = (
    *("-a_gt", "-a_ullr", "-expand", "-mask", "-mo", "-oo"),
    *("-outsize", "-ovr", "-projwin", "-scale", "-srcwin", "-tr"),
)
_NEEDED_ELSEWHERE = (
    *("-f", "--format", "--driver", "--use-cog-driver"),
    *("--in-memory", "--no-in-memory", "--allow-intermediate-compression"),
)

_INSTEAD = {
    "--compress": "give -p zstd, or --co COMPRESS=ZSTD",
    "--overview-level": "give --co OVERVIEW_COUNT=N",
    "--overview-blocksize": "leave it out: all levels of a COG have the tiles of --blocksize",
    "-stats": "give --co STATISTICS=YES",
    **dict.fromkeys(("--forward-band-tags", "--forward-ns-tags"), _TAGS),
    **dict.fromkeys(_NEEDED_ELSEWHERE, _NEEDLESS),
    **dict.fromkeys(_OF_REPROJECTION, _REPROJECT),
    **dict.fromkeys(_OF_TRANSLATE, _TRANSLATE),
}


class WriteCommand(GroupedCommand):
    """A command that knows the options of its neighbours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what to type instead of an option that is not of ccog."""
        for name in (text.partition("=")[0] for text in args):
            if name in _INSTEAD:
                instead = _INSTEAD[name].format(name=name)
                raise click.UsageError(f"ccog has no option {name}; {instead}", ctx)
        return super().parse_args(ctx, args)

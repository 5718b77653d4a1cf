"""The tags that say how tiles are encoded: those of a header must be those of its tiles.

GDAL writes the header and, elsewhere and later, the tiles. Whatever changes one of them alone, such
as an option of GDAL in the environment of one worker, shows in these tags.
"""

from __future__ import annotations

from typing import NamedTuple

from ccog.tiff import tags
from ccog.tiff.directories import Directory


class TileTags(NamedTuple):
    """How the tiles of a directory are encoded, whatever their number of bands.

    The type of samples is not among it: header and tiles have it from one place.
    """

    compression: int
    predictor: int
    bits: int
    separate: bool
    ycbcr: bool
    subsampling: bytes
    fill_order: int
    jpeg_tables: bytes
    lerc_parameters: bytes

    @classmethod
    def of(cls, directory: Directory) -> TileTags:
        """That of the tiles of a directory."""
        separate = directory.value(tags.PLANAR_CONFIG, 1) == tags.SEPARATE
        return cls(
            compression=directory.value(tags.COMPRESSION, tags.UNCOMPRESSED),
            predictor=directory.value(tags.PREDICTOR, 1),
            bits=directory.value(tags.BITS_PER_SAMPLE, 1),
            separate=separate and directory.value(tags.SAMPLES_PER_PIXEL, 1) > 1,
            ycbcr=directory.value(tags.PHOTOMETRIC) == tags.YCBCR,
            subsampling=directory.raw(tags.YCBCR_SUBSAMPLING),
            fill_order=directory.value(tags.FILL_ORDER, 1),
            jpeg_tables=directory.raw(tags.JPEG_TABLES),
            lerc_parameters=directory.raw(tags.LERC_PARAMETERS),
        )

    def of_plane(self) -> TileTags:
        """The same of one band by itself."""
        return self._replace(separate=False)

    def differences(self, other: TileTags) -> str:
        """What differs, by name, with the two values; nothing where they are alike."""
        one, two = self._asdict(), other._asdict()
        return ", ".join(
            f"{name} ({_shown(value)} and {_shown(two[name])})"
            for name, value in one.items()
            if value != two[name]
        )


def _shown(value: int | bytes) -> str:
    return value.hex()[:16] or "none" if isinstance(value, bytes) else str(value)

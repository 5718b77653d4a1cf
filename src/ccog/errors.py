"""The exception tree: every error ccog raises on purpose is a :class:`CCOGError` and the builtin it resembles."""


class CCOGError(Exception):
    """Base of all errors raised on purpose by ccog."""


class OptionError(CCOGError, ValueError):
    """A creation option is unknown, has a bad value, or does not fit the raster."""


class ReprojectionError(OptionError):
    """An option that would reproject or resample the raster was given."""


class RasterError(CCOGError, ValueError):
    """The array, or its mask, has a shape, chunking or metadata that cannot be written."""


class DtypeError(CCOGError, TypeError):
    """The array has a dtype that GeoTIFF, or the chosen compression, cannot hold."""


class ChunkError(CCOGError, ValueError):
    """A chunk is not of the type, shape or dtype that its array declares; nothing is written."""


class ArgumentTypeError(CCOGError, TypeError):
    """An argument is of the wrong type."""


class EncodeError(CCOGError, RuntimeError):
    """GDAL failed to compress a block; nothing is written."""


class StoreError(CCOGError, OSError):
    """The target cannot be written."""


class StoreExistsError(StoreError, FileExistsError):
    """The target exists and overwriting it was not asked for."""


class StoreNotFoundError(StoreError, FileNotFoundError):
    """The directory or bucket of the target does not exist."""


class StorePermissionError(StoreError, PermissionError):
    """The store refused access to the target."""


class ResumeError(CCOGError, ValueError):
    """What is unfinished at the target is another write than the one to be resumed, or cannot be resumed there."""


class MissingDependencyError(CCOGError, ImportError):
    """An optional package is needed; the message names the pip command."""


class CCOGWarning(UserWarning):
    """Something costs more than it needs to, or behaves differently than a user may expect."""

"""What people and logs are shown of texts that may hold credentials: URLs, and messages that quote them."""

from __future__ import annotations

import re

#: What stands in place of what is not shown.
HIDDEN = "***"

# user:password@ after a scheme; a password may hold an @ of its own
_PASSWORD = re.compile(r"(?P<kept>[a-z][\w+.-]*://[^\s/:@'\"]*):[^\s/'\"]*@", re.IGNORECASE)

# the query of a URL, which presigned URLs are signed in, and of GDAL's /vsicurl?...
_QUERY = re.compile(r"(?P<kept>(?:://|/vsi)[^\s?'\"<>]*)\?[^\s'\"<>]+")


def redacted(text: object) -> str:
    """The text without passwords and query strings of the URLs in it; without any it stays as it is."""
    without = _PASSWORD.sub(rf"\g<kept>:{HIDDEN}@", str(text))
    return _QUERY.sub(rf"\g<kept>?{HIDDEN}", without)

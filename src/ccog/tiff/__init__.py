"""Image file directories and headers, to and from bytes. Pure."""

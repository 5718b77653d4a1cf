"""A store in a message between scheduler and workers, which shows no credentials in logs."""

from __future__ import annotations

from distributed.protocol.pickle import dumps, loads

from ccog.stores import Store


class Sealed:
    """A pickled store: its repr says nothing, whoever logs it.

    It is sent as ``travelling``, which dask unpacks wherever it arrives; the store only
    where ``open`` is called.
    """

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    @classmethod
    def of(cls, store: Store) -> Sealed:
        """Seal a store, as dask would pickle it."""
        return cls(dumps(store))

    def open(self) -> Store:
        """The store."""
        store: Store = loads(self._data)
        return store

    def __repr__(self) -> str:
        return "<sealed store>"

    def __reduce__(self) -> tuple[type[Sealed], tuple[bytes]]:
        return Sealed, (self._data,)

"""Annotations of tasks (``dask.annotate``), which outlive the fusion of the user's tasks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

#: Values by name, such as ``retries`` or ``resources``; a value may be a function of the key.
Annotations = Mapping[str, Any]

# larger than any priority of ours, so that the user's decides first
_USERS_PRIORITY = 10**9


def with_ours(users: Annotations | None, priority: Callable[[Any], int]) -> dict[str, Any]:
    """The user's annotations of our tasks, and our priority among those of the user's same one."""
    annotations = dict(users or {})
    first = annotations.get("priority", 0)
    return annotations | {"priority": partial(_prioritised, first, priority) if first else priority}


def by_key(layers: Iterable[Any]) -> dict[Any, dict[str, Any]]:
    """The annotations of each task of the layers that have any."""
    annotations: dict[Any, dict[str, Any]] = {}
    for layer in layers:
        for name, value in (layer.annotations or {}).items():
            for key in layer:
                annotations.setdefault(key, {})[name] = _value(value, key)
    return annotations


def for_layer(
    of_tasks: Mapping[Any, dict[str, Any]], of_layer: Annotations | None = None
) -> dict[str, Any] | None:
    """Annotations of a layer some of whose tasks have their own besides those that all have."""
    annotations = dict(of_layer or {})
    for name in set(itertools.chain(*of_tasks.values())):
        values = {key: notes[name] for key, notes in of_tasks.items() if name in notes}
        if name == "priority" and name in annotations:
            ours = annotations[name]
            values = {key: _prioritised(users, ours, key) for key, users in values.items()}
        annotations[name] = partial(_of_task, values, annotations.get(name))
    return annotations or None


def _prioritised(users: Any, ours: Any, key: Any) -> int:
    return int(_value(users, key)) * _USERS_PRIORITY + int(_value(ours, key))


def _of_task(values: dict[Any, Any], otherwise: Any, key: Any) -> Any:
    """The value of a key; of one without that of all tasks, or None, which dask passes over."""
    return values[key] if key in values else _value(otherwise, key)


def _value(value: Any, key: Any) -> Any:
    return value(key) if callable(value) else value

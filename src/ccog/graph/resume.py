"""What an unfinished write has left that can be used: which records, and whether they are right.

Work whose record cannot be read is done again, which may need records that were not needed
before. So records are looked at until all that tasks will load are known to be right.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from ccog.errors import CCOGWarning
from ccog.geometry.file_order import UploadGroup
from ccog.graph.context import MERGE_ARITY, Checkpoint
from ccog.runtime.manifest import find_resumable
from ccog.tasks.checkpoints import MERGE, OVERVIEWS, Seal, parse_record
from ccog.tasks.job import WriteJob
from ccog.tasks.record_checks import UnreadableError, check_overviews, check_segment

# records that are looked at at a time, and those of which a warning gives names
_LOOKERS = 8
_MOST_NAMED = 5


def find_checkpoint(
    job: WriteJob, loads: Callable[[Checkpoint], Mapping[Any, str]]
) -> Checkpoint | None:
    """The checkpoint that a write can be resumed from now, or None; warns of unreadable records.

    ``loads`` gives the names of the records that tasks would load from a checkpoint.

    Raises
    ------
    ResumeError
        The store keeps no checkpoints, or what is unfinished there is another write.
    """
    if job.manifest is None:
        return None
    kept = find_resumable(job.store, job.manifest)
    if kept is None:
        return None
    seals: dict[str, Seal] = {}
    unreadable: dict[str, UnreadableError] = {}
    while True:
        names = kept.names - unreadable.keys()
        checkpoint = Checkpoint(upload_id=kept.upload_id, names=names, seals=seals)
        wanted = [*set(loads(checkpoint).values()) - seals.keys()]
        if not wanted:
            break
        with ThreadPoolExecutor(_LOOKERS) as pool:
            looks = list(pool.map(partial(_seal_of, job, kept.upload_id), wanted))
        for name, look in zip(wanted, looks, strict=True):
            if isinstance(look, Seal):
                seals[name] = look
            else:
                unreadable[name] = look
    if unreadable:
        _warn_of(job, unreadable)
    return checkpoint


def _seal_of(job: WriteJob, upload_id: str, name: str) -> Seal | UnreadableError:
    """The seal of a record that can be used, or what is wrong with it."""
    kind, numbers = parse_record(name)
    try:
        if kind == OVERVIEWS:
            i, j = numbers
            return check_overviews(job, upload_id, name, (i, j))
        if kind == MERGE:
            return check_segment(job, upload_id, name, _groups_of_merge(job, *numbers))
        (n,) = numbers
        group = job.geometry.groups.all[n]
        return check_segment(job, upload_id, name, _joined(job, group))
    except UnreadableError as error:
        return error


def _groups_of_merge(job: WriteJob, depth: int, n: int) -> list[UploadGroup]:
    """The upload groups that a merge joins, in file order."""
    span, merged = MERGE_ARITY ** (depth + 1), job.geometry.groups.for_merges
    numbers = range(len(merged))[n * span : (n + 1) * span]
    return [*itertools.chain(*(_joined(job, merged[number]) for number in numbers))]


def _joined(job: WriteJob, group: UploadGroup) -> list[UploadGroup]:
    """An upload group behind those that it is joined to where it is uploaded, and theirs."""
    numbers = job.geometry.groups.joined_at(group.number)
    before = [_joined(job, group._replace(number=number)) for number in numbers]
    return [*itertools.chain(*before), group]


def _warn_of(job: WriteJob, unreadable: Mapping[str, UnreadableError]) -> None:
    named = [f"{name} ({error})" for name, error in sorted(unreadable.items())[:_MOST_NAMED]]
    more = f" and {len(unreadable) - len(named)} more" if len(unreadable) > len(named) else ""
    warnings.warn(
        f"records of the unfinished write to {job.store.url} cannot be read, and their work is "
        f"done again: {', '.join(named)}{more}",
        CCOGWarning,
        stacklevel=2,
    )

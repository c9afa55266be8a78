"""TensorBoard's event files, cut back to the step that a run goes on from."""

from collections.abc import Iterator
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter

from minigpt.system.files import atomic_path

CONFIG_TAG = "config"
"""Under this tag each session shows its config at the step that it begins with."""
_RESTATED = frozenset({"_hparams_", "custom_scalars__config__"})
"""The settings of the HPARAMS tab and the charts of CUSTOM SCALARS, which each session states anew."""


def cut_events(folder: Path, step: int) -> None:
    """Remove what the event files in `folder` hold beyond `step`, which a resumed run writes again.

    TensorBoard can be told to forget these points, but its Python reader (`EventAccumulator`) forgets scalars, images
    and histograms only, and gives texts twice. What an earlier resume told it to forget is removed as well, and so is
    what each session states anew. Each file is replaced as a whole or not at all: a kill loses nothing, and the next
    resume finishes the work.
    """
    limit = step + 1
    for path in sorted(folder.glob("*tfevents*"), reverse=True):
        if path.name.startswith("."):
            continue
        events = [Event.FromString(record) for record in _records(path)]
        kept = [event for event in events if _is_kept(event, limit)]
        if len(kept) < len(events):
            with atomic_path(path, hidden_name="events") as temporary, temporary.open("wb") as file:
                writer = RecordWriter(file)
                for event in kept:
                    writer.write(event.SerializeToString())
        starts = [event.step for event in events if event.session_log.status == SessionLog.START]
        limit = min([limit, *starts])


def _records(path: Path) -> Iterator[bytes]:
    """The events of a file up to its end, or up to where a kill cut it."""
    yield from RawEventFileLoader(str(path)).Load()


def _is_kept(event: Event, limit: int) -> bool:
    """Whether an event belongs to the steps below `limit`."""
    tags = {value.tag.split("/")[0] for value in event.summary.value}
    if not tags:
        return True  # the version of the file, the beginning of a session
    return event.step < limit - (CONFIG_TAG in tags) and not tags & _RESTATED

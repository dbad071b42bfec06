"""Files that exist whole or not at all. Ground floor: every room may import it; no torch."""

import os
import tempfile
from pathlib import Path


def write_bytes(path: Path, content: bytes, durable: bool = True) -> None:
    """Writes `content` to `path` through a temporary file in the same folder, fsync and rename.

    A reader, a crash or a full disk sees the old file or the new one, never a part. Raises `OSError` with the
    temporary file removed; the old file is untouched. Not `durable`, and so quick, is for what a crash may cost.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """`write_bytes` for UTF-8 text; what cannot be encoded, as of file names that are not UTF-8, is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"), durable)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself durable, where the file system lets a folder be synced."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)

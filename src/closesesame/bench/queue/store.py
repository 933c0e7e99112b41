"""The store of a grid: one SQLite file (WAL), in which a row is a job, leased to one worker at a time.

A job is pending until all it needs is done, then leased, then done or failed. A lease that is not renewed is
taken back; a job is completed by the one who holds its lease, and once only.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from closesesame.core.errors import DataError, cut, short

FILE = "grid.sqlite"
LEASE_S = 60.0
MOST_TRIES = 3
"""How often a job may kill its worker before it fails; a grid can set another number with `tries`."""
_TABLES = {"job", "need", "attempt", "about"}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS job (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    payload TEXT NOT NULL,
    label TEXT NOT NULL,
    waits_for INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'leased', 'done', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until REAL,
    result TEXT,
    error TEXT,
    seconds REAL,
    peak_mb REAL,
    finished REAL
);
CREATE INDEX IF NOT EXISTS ready ON job (state, waits_for, number);
CREATE TABLE IF NOT EXISTS need (
    job TEXT NOT NULL, needs TEXT NOT NULL, PRIMARY KEY (job, needs)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS needed ON need (needs);
CREATE TABLE IF NOT EXISTS attempt (
    number INTEGER PRIMARY KEY, job TEXT NOT NULL, owner TEXT NOT NULL, started REAL NOT NULL, outcome TEXT
);
CREATE INDEX IF NOT EXISTS attempt_of ON attempt (job);
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS paused (job TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS active AS SELECT * FROM job WHERE id NOT IN (SELECT job FROM paused);
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of work.

    Attributes:
        id: identity: a hash of all that its result depends on.
        task: `module:function` that does it, called with the job and the artifacts.
        payload: plain JSON values.
        needs: ids of jobs that must be done before.
        label: what a person reads in lists.
    """

    id: str
    task: str
    payload: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the store knows of one job."""

    job: Job
    state: str
    tries: int
    owner: str | None
    result: Any
    error: str | None
    seconds: float | None
    peak_mb: float | None


@dataclass
class Outcome:
    """What a worker has to say of a job: a result, or an error in one sentence."""

    result: Any = None
    error: str | None = None
    seconds: float = 0.0
    peak_mb: float = 0.0


class Store:
    """Jobs in `grid.sqlite` of a folder; every method is one transaction.

    Whatever is wrong with the file is a `DataError` that names it.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """Opens a store.

        Args:
            folder: made, with an empty store in it, if it is not there.
            read_only: to look at what is there; nothing is made, and the folder need not be writable.

        Raises:
            DataError: if it cannot be opened, or is the file of another program, or if there is none to read.
        """
        self.folder, self.file = folder, folder / FILE
        if read_only and not self.file.is_file():
            raise _no_grid(folder)
        with self._in_words():
            if not read_only:
                folder.mkdir(parents=True, exist_ok=True)
            self._db = _open_to_read(self.file) if read_only else _open(self.file)
            try:
                self._begin(read_only=read_only)
            except BaseException:
                self._db.close()
                raise

    def _begin(self, *, read_only: bool) -> None:
        """Looks whose file it is, and makes the tables that are not there."""
        tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and not tables >= _TABLES:
            raise self._foreign()
        if read_only and not tables:
            raise _no_grid(self.folder)
        if not read_only:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            # All tables or none: whoever is killed here leaves an empty store, not half of one.
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Cursor]:
        with self._in_words(), closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk may have ended it already
                    with suppress(sqlite3.Error):
                        cursor.execute("ROLLBACK")
                raise

    def _query(self, sql: str, values: tuple[object, ...] = ()) -> list[Any]:
        with self._in_words():
            return self._db.execute(sql, values).fetchall()

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        """Whatever a file, a disk or another program can do to a store, in one sentence."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._sentence(error) from error
        except OSError as error:
            raise DataError(f"{error.filename or self.file} cannot be used: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self.damaged(" ".join(f"{type(error).__name__}: {error}".split())[:120]) from error

    def damaged(self, why: str) -> DataError:
        """The error for a store that holds what closesesame does not write."""
        return DataError(
            f"{self.file} is damaged ({cut(why, 160)}); keep the file if you can have it mended, and run the "
            "grid again in another store with 'sesame bench run RECIPE.toml --store FOLDER'"
        )

    def _foreign(self) -> DataError:
        return DataError(f"{self.file} is not a grid's store but another program's; use another folder")

    def _sentence(self, error: sqlite3.Error) -> DataError:
        code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF  # the rest says more of the same
        why = {
            sqlite3.SQLITE_FULL: "the disk is full; make room and start 'sesame bench run' again: what is "
            "recorded is kept",
            sqlite3.SQLITE_IOERR: "the disk does not read or write; look after it, and start 'sesame bench "
            "run' again: what is recorded is kept",
            sqlite3.SQLITE_BUSY: "another program holds it; wait for that, and try again",
            sqlite3.SQLITE_LOCKED: "another program holds it; wait for that, and try again",
            sqlite3.SQLITE_READONLY: "it cannot be written; copy the folder to a place where you may write",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened; make sure that you may read and write its folder",
            sqlite3.SQLITE_PROTOCOL: "its file system does not lock files as a store needs it; use a folder "
            "on a local disk",
            sqlite3.SQLITE_PERM: "it cannot be opened; make sure that you may read and write its folder",
        }.get(code)
        if why is not None:
            return DataError(f"{self.file}: {why}")
        if code == sqlite3.SQLITE_NOTADB:
            return self._foreign()
        return self.damaged(short(error))

    def add(self, jobs: Iterable[Job]) -> int:
        """Adds the jobs that are not there yet, in order; returns how many. Needs come before their users.

        Jobs that are there get the payload and label given: the same job may find its files elsewhere now.
        """
        added = 0
        with self._transaction() as cursor:
            for job in jobs:
                if cursor.execute(
                    "UPDATE job SET payload = ?, label = ? WHERE id = ?",
                    (json.dumps(job.payload), job.label, job.id),
                ).rowcount:
                    continue
                waits = sum(
                    cursor.execute("SELECT state != 'done' FROM job WHERE id = ?", (need,)).fetchone()[0]
                    for need in job.needs
                )
                values = (job.id, job.task, json.dumps(job.payload), job.label, waits)
                cursor.execute(
                    "INSERT INTO job (id, task, payload, label, waits_for) VALUES (?, ?, ?, ?, ?)", values
                )
                added += 1
                cursor.executemany("INSERT INTO need VALUES (?, ?)", [(job.id, need) for need in job.needs])
                for need in job.needs:
                    failed = cursor.execute(
                        "SELECT label, error FROM job WHERE id = ? AND state = 'failed'", (need,)
                    ).fetchone()
                    if failed is not None:
                        self._fail(cursor, job.id, _because(*failed))
        return added

    def pause_all_but(self, jobs: Iterable[str]) -> None:
        """Lets pending jobs that are not among these rest: no worker gets them, and they are not counted."""
        with self._transaction() as cursor:
            cursor.execute("DELETE FROM paused")
            cursor.execute("INSERT INTO paused SELECT id FROM job WHERE state IN ('pending', 'leased')")
            cursor.executemany("DELETE FROM paused WHERE job = ?", [(job,) for job in jobs])

    def claim(self, owner: str) -> Job | None:
        """Leases the first job that is ready, or one whose lease has run out; None if there is none."""
        now = time.time()
        with self._transaction() as cursor:
            self._take_back(cursor, "lease_until < ?", now, f"its worker did not answer for {LEASE_S:g} s")
            found = cursor.execute(
                "SELECT id, task, payload, label FROM active WHERE state = 'pending' AND waits_for = 0"
                " ORDER BY number LIMIT 1"
            ).fetchone()
            if found is None:
                return None
            cursor.execute(
                "UPDATE job SET state = 'leased', owner = ?, lease_until = ?, tries = tries + 1 WHERE id = ?",
                (owner, now + LEASE_S, found[0]),
            )
            cursor.execute(
                "INSERT INTO attempt (job, owner, started) VALUES (?, ?, ?)", (found[0], owner, now)
            )
            needs = tuple(
                row[0] for row in cursor.execute("SELECT needs FROM need WHERE job = ?", (found[0],))
            )
            payload = json.loads(found[2])
        return Job(id=found[0], task=found[1], payload=payload, label=found[3], needs=needs)

    def renew(self, owner: str) -> None:
        """Prolongs the leases of a worker that is alive."""
        with self._transaction() as cursor:
            cursor.execute(
                "UPDATE job SET lease_until = ? WHERE state = 'leased' AND owner = ?",
                (time.time() + LEASE_S, owner),
            )

    def release(self, owner: str, *, blame: str = "") -> int:
        """Gives back what a worker held; returns how many jobs that was.

        Args:
            owner: the worker.
            blame: what befell it at its job; the try then counts, and the last one fails the job. Nothing if
                the job is not to blame.
        """
        with self._transaction() as cursor:
            if not blame:
                cursor.execute(
                    "UPDATE job SET tries = tries - 1 WHERE state = 'leased' AND owner = ?", (owner,)
                )
            return self._take_back(cursor, "owner = ?", owner, blame)

    def _take_back(self, cursor: sqlite3.Cursor, condition: str, value: object, why: str) -> int:
        taken = cursor.execute(
            f"SELECT id, owner, tries FROM job WHERE state = 'leased' AND {condition}",  # noqa: S608
            (value,),
        ).fetchall()
        most = self._most_tries(cursor) if taken else 0
        for job, owner, tries in taken:
            _close_attempt(cursor, job, owner, "lost")
            if why and tries >= most:
                self._fail(cursor, job, f"in the last of {tries} tries {why}" if tries > 1 else why)
            else:
                cursor.execute(
                    "UPDATE job SET state = 'pending', owner = NULL, lease_until = NULL WHERE id = ?", (job,)
                )
        return len(taken)

    def _most_tries(self, cursor: sqlite3.Cursor) -> int:
        kept = cursor.execute("SELECT value FROM about WHERE name = 'tries'").fetchone()
        return MOST_TRIES if kept is None else int(kept[0])

    def finish(self, job: str, owner: str, outcome: Outcome) -> bool:
        """Records a result or an error; False, and nothing is recorded, if the lease was lost meanwhile."""
        with self._transaction() as cursor:
            held = cursor.execute(
                "SELECT 1 FROM job WHERE id = ? AND state = 'leased' AND owner = ?", (job, owner)
            ).fetchone()
            if held is None:
                return False
            cursor.execute(
                "UPDATE job SET seconds = ?, peak_mb = ? WHERE id = ?",
                (outcome.seconds, outcome.peak_mb, job),
            )
            if outcome.error is not None:
                _close_attempt(cursor, job, owner, "failed")
                self._fail(cursor, job, outcome.error)
                return True
            _close_attempt(cursor, job, owner, "done")
            cursor.execute(
                "UPDATE job SET state = 'done', owner = NULL, lease_until = NULL, result = ?, finished = ?"
                " WHERE id = ?",
                (json.dumps(outcome.result), time.time(), job),
            )
            cursor.execute(
                "UPDATE job SET waits_for = waits_for - 1 WHERE id IN (SELECT job FROM need WHERE needs = ?)",
                (job,),
            )
        return True

    def _fail(self, cursor: sqlite3.Cursor, job: str, error: str) -> None:
        """Fails a job, and all that needed it."""
        failing = [(job, error)]
        while failing:
            name, reason = failing.pop()
            cursor.execute(
                "UPDATE job SET state = 'failed', owner = NULL, lease_until = NULL, error = ?, finished = ?"
                " WHERE id = ?",
                (reason, time.time(), name),
            )
            label = cursor.execute("SELECT label FROM job WHERE id = ?", (name,)).fetchone()[0]
            users = cursor.execute("SELECT job FROM need WHERE needs = ?", (name,)).fetchall()
            failing += [(user[0], _because(label, reason)) for user in users]

    def retry_failed(self) -> int:
        """Makes failed jobs pending again, with fresh tries; returns how many."""
        with self._transaction() as cursor:
            cursor.execute("UPDATE job SET state = 'pending', tries = 0, error = NULL WHERE state = 'failed'")
            count = cursor.rowcount
            cursor.execute(
                "UPDATE job SET waits_for = (SELECT count(*) FROM need JOIN job AS other"
                " ON other.id = need.needs WHERE need.job = job.id AND other.state != 'done')"
                " WHERE state = 'pending'"
            )
        return count

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state, without those that rest."""
        found = dict(self._query("SELECT state, count(*) FROM active GROUP BY state"))
        return {state: found.get(state, 0) for state in ("pending", "leased", "done", "failed")}

    def seconds_by_task(self) -> dict[str, tuple[float, int]]:
        """Mean seconds of done jobs and number of open ones, by task: what an estimate needs."""
        rows = self._query(
            "SELECT task, avg(CASE state WHEN 'done' THEN seconds END),"
            " sum(state IN ('pending', 'leased')) FROM active GROUP BY task"
        )
        return {str(task): (mean or 0.0, waiting) for task, mean, waiting in rows}

    def leased(self) -> list[tuple[str, str, float]]:
        """Owner, label and start of every job in work."""
        rows = self._query(
            "SELECT job.owner, job.label, max(attempt.started) FROM job JOIN attempt ON attempt.job = job.id"
            " WHERE job.state = 'leased' GROUP BY job.id ORDER BY job.owner"
        )
        return [(str(owner), str(label), float(started)) for owner, label, started in rows]

    def completions(self) -> dict[str, int]:
        """How often each job was run to completion: once, if the store is sound."""
        rows = self._query("SELECT job, count(*) FROM attempt WHERE outcome = 'done' GROUP BY job")
        return {job: int(count) for job, count in rows}

    def rows(self, task: str | None = None) -> list[Row]:
        """All jobs, in the order they were added."""
        needs: dict[str, list[str]] = {}
        for job, need in self._query("SELECT job, needs FROM need"):
            needs.setdefault(job, []).append(need)
        found = self._query(
            "SELECT id, task, payload, label, state, tries, owner, result, error, seconds, peak_mb FROM job"
            " WHERE ? IS NULL OR task = ? ORDER BY number",
            (task, task),
        )
        if not all(isinstance(text, str) for row in found for text in (row[0], row[1], row[3])):
            raise self.damaged("a job has no id, task or label")
        with self._in_words():
            return [
                Row(
                    job=Job(
                        id=row[0],
                        task=row[1],
                        payload=json.loads(row[2]),
                        needs=tuple(needs.get(row[0], ())),
                        label=row[3],
                    ),
                    state=row[4],
                    tries=row[5],
                    owner=row[6],
                    result=None if row[7] is None else json.loads(row[7]),
                    error=row[8],
                    seconds=row[9],
                    peak_mb=row[10],
                )
                for row in found
            ]

    def describe(self, **values: str) -> None:
        """Keeps a few words about the grid, by name."""
        with self._transaction() as cursor:
            cursor.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", values.items())

    def description(self) -> dict[str, str]:
        """What `describe` kept."""
        return dict(self._query("SELECT name, value FROM about"))


def _no_grid(folder: Path) -> DataError:
    return DataError(
        f"{folder} holds no grid; begin one with 'sesame bench run RECIPE.toml --store {folder}'"
    )


def _open(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=60, isolation_level=None)


def _open_to_read(file: Path) -> sqlite3.Connection:
    """Opens a store to look at it, also where nothing can be written."""
    writable = os.access(file.parent, os.W_OK) and os.access(file, os.W_OK)
    # What a killed run left in the log is taken over, which only who may write can do.
    where = f"{file.resolve().as_uri()}?mode={'rw' if writable else 'ro'}"
    if not writable and not file.with_name(f"{FILE}-wal").exists():
        where += "&immutable=1"  # else it asks for a file of its own beside the store
    return sqlite3.connect(where, uri=True, timeout=60, isolation_level=None)


def _because(label: str, reason: str) -> str:
    """Why a job fails that needs a failed one; the first cause is named, however long the chain."""
    return reason if reason.startswith("needs ") else f"needs {label!r}, which failed: {reason}"


def _close_attempt(cursor: sqlite3.Cursor, job: str, owner: str, outcome: str) -> None:
    cursor.execute(
        "UPDATE attempt SET outcome = ? WHERE job = ? AND owner = ? AND outcome IS NULL",
        (outcome, job, owner),
    )

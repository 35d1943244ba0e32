#!/usr/bin/env bash
# An incremental vacuum through Python's sqlite3 frees one page.
#
# Software: Python 3.11.7 (its sqlite3), SQLite 3.40.1.
#
# Expected: `connection.execute("PRAGMA incremental_vacuum")` returns all free pages of a database
#   with auto_vacuum = INCREMENTAL to the disk, as SQLite's documentation and its shell do.
# Instead: each call frees a single page, with `fetchall` as well, and there is no error: the
#   statement frees a page with each step, and only the first is taken. A database that deletes more
#   than a page between two calls never becomes smaller. `executescript` frees all pages.
#
# Seen:
#   free pages 1503; after execute 1502, after execute and fetchall 1501, after executescript 0
#   file: 10.3 MB before, 4.1 MB after executescript
#
# Source: https://www.sqlite.org/pragma.html#pragma_incremental_vacuum ("if the page count is
#   omitted, the entire freelist is cleared").

source "$(dirname "$0")/lib/setup.sh"

python3 - "$WORK" <<'PY'
import os, sqlite3, sys

path = os.path.join(sys.argv[1], "history.sqlite3")
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA auto_vacuum = INCREMENTAL")
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE t (x)")
db.execute("BEGIN")
db.executemany("INSERT INTO t VALUES (?)", [(os.urandom(2000),) for _ in range(5000)])
db.execute("COMMIT")
db.execute("DELETE FROM t WHERE rowid <= 3000")


def free():
    return db.execute("PRAGMA freelist_count").fetchone()[0]


def size():
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return f"{os.path.getsize(path) / 1e6:.1f} MB"


before, before_size = free(), size()
db.execute("PRAGMA incremental_vacuum")
once = free()
db.execute("PRAGMA incremental_vacuum").fetchall()
fetched = free()
db.executescript("PRAGMA incremental_vacuum")
print(f"Python {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
print(
    f"free pages {before}; after execute {once}, after execute and fetchall {fetched},"
    f" after executescript {free()}"
)
print(f"file: {before_size} before, {size()} after executescript")
assert before > 1000
assert before - fetched <= 2, "execute frees all pages by now"
assert free() == 0
PY

"""Verdicts already given, by a hash of the request: in memory always, in a SQLite file when RLCS_JUDGE_CACHE names one.

The file is shared by the workers of a pool and outlives a run. Only verdicts are kept, never failures.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import sqlite3
import threading

from rewards.judge_client import Reply

_log = logging.getLogger(__name__)

PATH_VARIABLE = "RLCS_JUDGE_CACHE"
MAX_ENTRIES = 100_000
_BUSY_S = 5.0


class JudgeCache:
    """Least-recently-used verdicts in memory, over a file at `path` if given. Safe to use from several threads."""

    def __init__(self, path: str | None = None, max_entries: int = MAX_ENTRIES) -> None:
        self.path, self.max_entries = path, max_entries
        self._entries: collections.OrderedDict[str, Reply] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._warned = False

    def get(self, key: str) -> Reply | None:
        """The reply kept under `key`."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return self._entries[key]
        found = self._from_file(key)
        if found is not None:
            self._remember(key, found)
        return found

    def put(self, key: str, reply: Reply) -> None:
        """Keep `reply` under `key`."""
        self._remember(key, reply)
        if self.path is None:
            return
        try:
            with contextlib.closing(self._connect(self.path)) as connection, connection:
                connection.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, reply.text, reply.probability))
        except sqlite3.Error as error:
            self._warn(error)

    def _remember(self, key: str, reply: Reply) -> None:
        with self._lock:
            self._entries[key] = reply
            self._entries.move_to_end(key)
            while len(self._entries) > self.max_entries:
                self._entries.popitem(last=False)

    def _from_file(self, key: str) -> Reply | None:
        if self.path is None:
            return None
        try:
            with contextlib.closing(self._connect(self.path)) as connection:
                row = connection.execute("SELECT text, probability FROM replies WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            self._warn(error)
            return None
        return None if row is None else Reply(*row)

    @staticmethod
    def _connect(path: str) -> sqlite3.Connection:
        # Opened for each use: a request to a judge takes far longer, and no connection crosses a thread or a fork.
        connection = sqlite3.connect(path, timeout=_BUSY_S)
        try:
            connection.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, probability REAL)")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _warn(self, error: sqlite3.Error) -> None:
        if not self._warned:
            self._warned = True
            _log.warning("judge cache %s cannot be used (%s); verdicts are kept in memory only", self.path, error)


_caches: dict[str | None, JudgeCache] = {}


def process_cache() -> JudgeCache:
    """This process's cache over the file RLCS_JUDGE_CACHE names now."""
    path = os.environ.get(PATH_VARIABLE) or None
    return _caches.setdefault(path, JudgeCache(path))

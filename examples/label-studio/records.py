"""What has become of each annotation, and who is who."""

import contextlib
import csv
import dataclasses
import datetime
import sqlite3
import threading
import uuid

from services import Misfit

LOCK_SECONDS_MAX = 20
UTC = datetime.timezone.utc


class Records:
    """What has become of each annotation, in a SQLite file. It saves asking Glyph again, and can be deleted: `sync` writes it anew."""

    def __init__(self, path):
        self.path = path
        self.local = threading.local()
        with self.open() as database:
            database.executescript(
                """CREATE TABLE IF NOT EXISTS annotations (
                       id INTEGER PRIMARY KEY, revision TEXT, outcome TEXT, code TEXT, detail TEXT, task INTEGER, task_id TEXT, person INTEGER, at TEXT);
                   CREATE TABLE IF NOT EXISTS not_shown (task_id TEXT PRIMARY KEY, detail TEXT);
                   CREATE TABLE IF NOT EXISTS slots (task_id TEXT PRIMARY KEY, version INTEGER, visit INTEGER, places INTEGER, submitted INTEGER);"""
            )

    @contextlib.contextmanager
    def open(self):
        if not hasattr(self.local, "database"):
            self.local.database = sqlite3.connect(self.path, timeout=LOCK_SECONDS_MAX)
            self.local.database.row_factory = sqlite3.Row
        with self.local.database:
            yield self.local.database

    def rows(self, query, *values):
        with self.open() as database:
            return database.execute(query, values).fetchall()

    def run(self, statement, *values):
        with self.open() as database:
            return database.execute(statement, values).rowcount

    def annotation(self, number):
        return next(iter(self.rows("SELECT * FROM annotations WHERE id = ?", number)), None)

    def keep(self, annotation, outcome):
        """Keeps an outcome, unless a later revision is known."""
        self.run(
            """INSERT INTO annotations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
                   revision = excluded.revision, outcome = excluded.outcome, code = excluded.code, detail = excluded.detail,
                   task = excluded.task, task_id = excluded.task_id, person = excluded.person, at = excluded.at
               WHERE excluded.revision >= annotations.revision""",
            annotation["id"], revision_of(annotation), outcome.kind, outcome.code, outcome.detail,
            annotation["task"], outcome.task_id, person_of(annotation), now(),
        )

    def refused(self):
        return [dict(row) for row in self.rows("SELECT * FROM annotations WHERE outcome = 'refused' ORDER BY id")]

    def not_shown(self):
        return [dict(row) for row in self.rows("SELECT * FROM not_shown ORDER BY task_id")]


@dataclasses.dataclass
class Outcome:
    """`kind` is accepted, refused, or skipped (nothing was answered)."""

    kind: str
    code: str = ""
    detail: str = ""
    task_id: str = ""


def now():
    return datetime.datetime.now(UTC).isoformat(timespec="microseconds")


def revision_of(annotation):
    """When this state of the annotation was made, in one form whatever zone Label Studio writes."""
    return datetime.datetime.fromisoformat(annotation["updated_at"].replace("Z", "+00:00")).astimezone(UTC).isoformat(timespec="microseconds")


def person_of(annotation):
    person = annotation.get("completed_by")
    return person.get("id") if isinstance(person, dict) else person


def glyph_id(kind, key):
    """The id of a task or person by its key, as `glyph task id` has it."""
    try:
        if len(key) == 36:
            return str(uuid.UUID(key))
    except ValueError:
        pass
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"glyph:{kind}:{key}"))


class People:
    """Who is who, by e-mail address. Without a file the address is the key of the person."""

    def __init__(self, path):
        self.path, self.listed = path, None
        self.read()

    def read(self):
        """Reads the file anew: people come and go."""
        if self.path is None:
            return
        listed = {}
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if not {"email", "user"} <= set(rows.fieldnames or ()):
                    raise Misfit(f"{self.path}: the first line must be `email,user` or `email,user,roles`")
                for row in rows:
                    if not row["email"] or not row["user"]:
                        raise Misfit(f"{self.path}, line {rows.line_num}: an e-mail address and a user are needed")
                    roles = [role for role in (row.get("roles") or "").split("+") if role]
                    email = row["email"].strip().lower()
                    if email in listed:
                        raise Misfit(f"{self.path}, line {rows.line_num}: {email} is there twice")
                    listed[email] = (glyph_id("user", row["user"].strip()), roles)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise Misfit(f"{self.path}: {error}") from error
        self.listed = listed

    def find(self, email):
        """Id and roles; none for somebody who is not listed."""
        if self.listed is None:
            return glyph_id("user", email), []
        return self.listed.get(email)

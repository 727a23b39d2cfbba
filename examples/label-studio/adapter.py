#!/usr/bin/env python3
"""People label in Label Studio, and Glyph decides: how many of them are asked, and what the answer is.

    adapter.py check      says whether the settings and the labelling interface fit the step
    adapter.py webhook URL   makes Label Studio call URL, where `serve` is reached
    adapter.py serve      takes webhooks, and does `sync` and `push` every minute
    adapter.py push       shows in Label Studio what waits in Glyph, and closes what needs nobody any more
    adapter.py sync       submits the annotations that no webhook has brought
    adapter.py refused    lists the work that is not in Glyph, and why

Needs nothing but Python 3.10. Settings: --help, and docs/label-studio.md. Ends with 0; 1 if it failed or `refused` lists anything; 2 if
the settings or the labelling interface do not fit; 4 if a service cannot be reached.
"""

import argparse
import contextlib
import csv
import dataclasses
import datetime
import fcntl
import hmac
import http.client
import http.server
import json
import logging
import os
import queue
import signal
import sqlite3
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import uuid

import answers

REQUEST_SECONDS_MAX = 20
LISTING_PAGE = 100  # tasks of Label Studio, with their annotations
TASKS_PAGE = 1000  # tasks of Glyph
IMPORT_BATCH = 200
LISTING_TRIES = 5
WEBHOOK_BYTES_MAX = 16 * 1024 * 1024
WEBHOOKS_AT_ONCE = 32
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
SECRET_HEADER = "X-Glyph-Secret"
UTC = datetime.timezone.utc

log = logging.getLogger("label-studio")


class Away(Exception):
    """A service that cannot be reached or is not ready: try again later."""


class Misfit(Exception):
    """Settings that do not fit, with a sentence on how to mend them."""


class Answered(Exception):
    """An answer that says no."""

    def __init__(self, what, status, body):
        super().__init__(f"{what} answered {status}: {body.get('detail') or body.get('title') or ''}".rstrip(": "))
        self.status, self.body = status, body


# --- the two services ---


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would be sent again as a GET, without its body."""

    def redirect_request(self, *_):
        return None


OPENER = urllib.request.build_opener(NoRedirects)


class Api:
    """JSON over HTTP."""

    def __init__(self, name, url):
        if not url.startswith(("http://", "https://")):
            raise Misfit(f"the address of {name} must begin with http:// or https://, and is {url!r}")
        self.name, self.url = name, url.rstrip("/")

    def headers(self):
        return {}

    def call(self, method, path, body=None, headers=None):
        what = f"{self.name}: {method} {path.split('?')[0]}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | self.headers() | (headers or {})
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with OPENER.open(request, timeout=REQUEST_SECONDS_MAX) as answer:
                text = answer.read()
                return json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            if error.code >= 500 or error.code == 429:
                raise Away(f"{what} answered {error.code}") from error
            try:
                told = json.loads(error.read())
            except (ValueError, OSError):
                told = {"detail": f"it redirects to {error.headers['location']}"} if 300 <= error.code < 400 else None
            raise Answered(what, error.code, told if isinstance(told, dict) else {}) from error
        except (OSError, http.client.HTTPException) as error:
            raise Away(f"{what}: {getattr(error, 'reason', error)}") from error
        except ValueError as error:
            raise Misfit(f"{what} answered no JSON; is {self.url} the address of {self.name}?") from error


class Glyph(Api):
    def __init__(self, url, token, workflow, step):
        super().__init__("Glyph", url)
        self.token, self.workflow, self.step = token, workflow, step
        self.questions = {}

    def headers(self):
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def role(self):
        return self.call("GET", "/ui/session")["role"]

    def question(self, revision):
        """What the step asks in a revision; none where it has no such step, or is a review."""
        if revision not in self.questions:
            name = f"{self.workflow}@{revision}" if revision else self.workflow
            steps = self.call("GET", f"/api/v1/workflows/{name}/answers")
            step = steps["steps"].get(self.step)
            if step is None or step["needed"] != "always":
                return None
            config = self.call("GET", f"/api/v1/workflows/{self.workflow}@{steps['revision']}")["config"]
            config = next((one for one in config["steps"] if one["id"] == self.step), None)
            question = answers.Question(step, config)
            if not revision:
                return question
            self.questions[revision] = question
        return self.questions[revision]

    def is_paused(self):
        page = self.call("GET", f"/api/v1/workflows?workflow={self.workflow}")
        return any(one.get("paused") for one in page["workflows"])

    def waiting(self):
        """The running tasks that wait in the step, as they are listed. While the whole workflow is paused there are none."""
        if self.is_paused():
            return
        after = ""
        while after is not None:
            page = self.call("GET", f"/api/v1/tasks?workflow={self.workflow}&step={self.step}&status=running&limit={TASKS_PAGE}{after}")
            yield from page["tasks"]
            after = f"&after={page['next_after']}" if page["next_after"] else None

    def state(self, task_id):
        """The state of a task; none where there is no such task."""
        try:
            return self.call("GET", f"/api/v1/tasks/{task_id}/state")
        except Answered as error:
            if error.status == 404:
                return None
            raise

    def submit(self, task_id, command_id, annotation):
        body = {"step_id": self.step, "annotation": annotation}
        return self.call("POST", f"/api/v1/tasks/{task_id}/submit", body, {"Idempotency-Key": command_id})


class LabelStudio(Api):
    def __init__(self, url, token, project):
        super().__init__("Label Studio", url)
        self.token, self.project = token, project
        self.access = None
        self.emails = {}

    def headers(self):
        if self.token.count(".") == 2:
            return {"Authorization": f"Bearer {self.access}"} if self.access else {}
        return {"Authorization": f"Token {self.token}"}

    def call(self, method, path, body=None, headers=None):
        # A personal access token is no key itself: it buys one, which is good for some minutes.
        if self.token.count(".") != 2:
            return super().call(method, path, body, headers)
        if self.access:
            try:
                return super().call(method, path, body, headers)
            except Answered as error:
                if error.status != 401:
                    raise
        self.access = None
        self.access = super().call("POST", "/api/token/refresh", {"refresh": self.token})["access"]
        return super().call(method, path, body, headers)

    def settings(self):
        return self.call("GET", f"/api/projects/{self.project}/")

    def email(self, user):
        """The e-mail address of a person by the number; none where there is no such person."""
        if user not in self.emails:
            people = self.call("GET", "/api/users/")
            self.emails = {person["id"]: person["email"].lower() for person in people}
        return self.emails.get(user)

    def tasks(self):
        """Every task with its annotations. Pages shift when a task is deleted meanwhile; then it is asked again."""
        for _ in range(LISTING_TRIES):
            found, total, number = {}, None, 1
            try:
                while total is None or len(found) < total:
                    path = f"/api/tasks?project={self.project}&fields=all&page_size={LISTING_PAGE}&page={number}"
                    page = self.call("GET", path)
                    found |= {task["id"]: task for task in page["tasks"]}
                    if not page["tasks"] or (total is not None and page["total"] != total):
                        break
                    total, number = page["total"], number + 1
            except Answered as error:
                if error.status != 404 or number == 1:  # a page that is not there any more
                    raise
                continue
            if len(found) == page["total"]:
                return found
        raise Away("Label Studio: the tasks change faster than they can be listed")

    def task(self, number):
        try:
            return self.call("GET", f"/api/tasks/{number}/")
        except Answered as error:
            if error.status == 404:
                return None
            raise

    def create(self, tasks):
        return self.call("POST", f"/api/projects/{self.project}/import?return_task_ids=true", tasks)["task_ids"]

    def set_open(self, number, overlap, is_labeled):
        self.call("PATCH", f"/api/tasks/{number}/", {"overlap": overlap, "is_labeled": is_labeled})


# --- what is remembered ---


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
            self.local.database = sqlite3.connect(self.path, timeout=REQUEST_SECONDS_MAX)
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


# --- the people ---


class People:
    """Who is who, by e-mail address. Without a file the address is the key of the person."""

    def __init__(self, path):
        self.listed = None
        if path is None:
            return
        self.listed = {}
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if not {"email", "user"} <= set(rows.fieldnames or ()):
                    raise Misfit(f"{path}: the first line must be `email,user` or `email,user,roles`")
                for row in rows:
                    if not row["email"] or not row["user"]:
                        raise Misfit(f"{path}, line {rows.line_num}: an e-mail address and a user are needed")
                    roles = [role for role in (row.get("roles") or "").split("+") if role]
                    email = row["email"].strip().lower()
                    if email in self.listed:
                        raise Misfit(f"{path}, line {rows.line_num}: {email} is there twice")
                    self.listed[email] = (glyph_id("user", row["user"].strip()), roles)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise Misfit(f"{path}: {error}") from error

    def find(self, email):
        """Id and roles; none for somebody who is not listed."""
        if self.listed is None:
            return glyph_id("user", email), []
        return self.listed.get(email)


# --- the adapter ---


class Adapter:
    def __init__(self, glyph, studio, people, records, pixels):
        self.glyph, self.studio, self.people, self.records, self.pixels = glyph, studio, people, records, pixels
        self.project = None
        self.faults = {}
        self.told = set()

    def read_project(self):
        self.project = self.studio.settings()
        self.interface = answers.Interface(self.project["label_config"])
        self.faults = {}

    def check(self):
        """Everything that can be known before the first annotation."""
        try:
            role = self.glyph.role()
            if role not in ("producer", "operator"):
                raise Misfit(f"the token for Glyph has the role `{role}`; the adapter needs one of the role `producer`")
            question = self.glyph.question(None)
            if question is None:
                raise Misfit(f"the workflow `{self.glyph.workflow}` has no step `{self.glyph.step}` in which people annotate or adjudicate")
            self.read_project()
        except Answered as error:
            hint = {401: "the token is missing, wrong or expired", 403: "the token does not permit it"}.get(error.status)
            raise Misfit(f"{error}{f'; {hint}' if hint else ''}") from error
        faults, warnings = self.interface.check(question)
        for warning in warnings:
            self.tell("warning", warning)
        if faults:
            raise Misfit("\n".join(faults))

    def tell(self, level, text):
        """Says something once, although each round finds it again."""
        if text not in self.told:
            self.told.add(text)
            getattr(log, level)("%s", text)

    def faults_of(self, revision):
        """What is wrong between the labelling interface and a revision of the workflow."""
        if revision not in self.faults:
            question = self.glyph.question(revision)
            missing = [f"revision {revision} has no step `{self.glyph.step}` in which people annotate"]
            self.faults[revision] = missing if question is None else self.interface.check(question)[0]
        return self.faults[revision]

    # --- from Label Studio to Glyph ---

    def deliver(self, annotation, task):
        """Brings an annotation to Glyph, and returns what has become of it once that is durable."""
        outcome = self.decide(annotation, task)
        before = self.records.annotation(annotation["id"])
        self.records.keep(annotation, outcome)
        is_news = before is None or (before["outcome"], before["code"], before["revision"]) != (outcome.kind, outcome.code, revision_of(annotation))
        if is_news and outcome.kind != "skipped":
            place = f"annotation {annotation['id']} of task {annotation['task']}"
            if outcome.kind == "accepted":
                log.info("%s: accepted", place)
            else:
                log.warning("%s: %s: %s", place, outcome.code, outcome.detail)
        return outcome

    def decide(self, annotation, task):
        meta = meta_of(task)
        if meta is None:
            return Outcome("refused", "unknown_task", "the task was not made by `push`: it has no `meta.glyph`")
        task_id = meta["task_id"]
        if (meta["workflow"], meta["step_id"]) != (self.glyph.workflow, self.glyph.step):
            return Outcome("refused", "unknown_task", f"the task is of step `{meta['step_id']}` of `{meta['workflow']}`", task_id)
        state = self.glyph.state(task_id)
        if state is None:
            return Outcome("refused", "task_not_found", "there is no such task in Glyph", task_id)
        try:
            question = self.glyph.question(state["revision"])
            if question is None:
                raise answers.Unmapped(f"revision {state['revision']} of the workflow has no such step")
            found = accepted(state, self.glyph.step, annotation_uuid(task_id, annotation))
            if annotation.get("was_cancelled"):
                skipped = Outcome("refused", "changed_later", "it was skipped after Glyph had accepted it, and Glyph keeps it", task_id)
                return skipped if found else Outcome("skipped", task_id=task_id)
            email = self.studio.email(person_of(annotation))
            person = self.people.find(email) if email else None
            if person is None:
                who = f"{email} is" if email else f"user {person_of(annotation)} of Label Studio is"
                return Outcome("refused", "unknown_user", f"{who} nobody whom the list of users names", task_id)
            data = question.data(self.parts(annotation, state))
        except answers.Unmapped as error:
            return Outcome("refused", "unmapped", str(error), task_id)
        submission = {
            "annotation_id": annotation_uuid(task_id, annotation), "user_id": person[0], "data": data,
            "submitted_at": revision_of(annotation), "roles": person[1],
        }
        if found:
            return compared(found, submission, task_id)
        if is_paused(state, self.glyph.step) or self.glyph.is_paused():
            # Glyph would refuse it for good. So it waits here, and each round tries it.
            return Outcome("refused", "task_paused", "the task is paused; it is submitted once the task is resumed", task_id)
        visit = current_visit(state, self.glyph.step)
        if visit and visit["number"] != meta["visit"]:
            detail = f"it was asked in visit {meta['visit']} of the step, and visit {visit['number']} has begun"
            return Outcome("refused", "earlier_visit", detail, task_id)
        return self.submit(task_id, submission)

    def submit(self, task_id, submission):
        # The same revision is the same command, however often and by whichever way it comes.
        command_id = str(uuid.uuid5(uuid.UUID(submission["annotation_id"]), submission["submitted_at"]))
        try:
            self.glyph.submit(task_id, command_id, submission)
        except Answered as error:
            if error.status in (401, 403, 408):
                raise
            # An earlier or later revision may have come in between.
            state = self.glyph.state(task_id)
            found = state and accepted(state, self.glyph.step, submission["annotation_id"])
            if found:
                return compared(found, submission, task_id)
            return Outcome("refused", error.body.get("code", str(error.status)), error.body.get("detail", str(error)), task_id)
        return Outcome("accepted", task_id=task_id)

    def parts(self, annotation, state):
        def text_of(name):
            key = self.interface.text_key(name)
            text = (state.get("input") or {}).get(key) if key else None
            return text if isinstance(text, str) else None

        try:
            return answers.parts_of(annotation["result"], text_of, self.pixels)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # One annotation that nobody expected must not stop the others.
            raise answers.Unmapped(f"its `result` cannot be read: {type(error).__name__}: {error}") from error

    def delete(self, number):
        """An annotation that is gone from Label Studio; returns its task there, where it is known."""
        row = self.records.annotation(number)
        if row is None:
            return None
        if row["outcome"] == "accepted" or row["code"] == "changed_later":
            detail = "it was deleted in Label Studio after Glyph had accepted it, and Glyph keeps it"
            self.records.run("UPDATE annotations SET outcome = 'refused', code = 'deleted_later', detail = ? WHERE id = ?", detail, number)
            log.warning("annotation %s of task %s: deleted_later: %s", number, row["task"], detail)
        elif row["code"] != "deleted_later":
            self.records.run("DELETE FROM annotations WHERE id = ?", number)
            log.info("annotation %s of task %s was deleted; Glyph did not have it", number, row["task"])
        return row["task"]

    def sync(self, tasks, since):
        """Brings what no webhook has brought. `tasks` were listed after the time `since`."""
        known = {row["id"]: row for row in self.records.rows("SELECT * FROM annotations")}
        there = set()
        for task in tasks.values():
            for annotation in task["annotations"]:
                there.add(annotation["id"])
                row = known.get(annotation["id"])
                # What was refused is tried again: somebody may have mended it, in Glyph or in the list of users.
                if row is None or row["revision"] != revision_of(annotation) or row["outcome"] == "refused":
                    self.deliver({"task": task["id"]} | annotation, task)
        for number, row in known.items():
            if number not in there and row["at"] < since:
                if row["task"] in tasks:
                    self.delete(number)
                else:
                    # Whoever deletes a task cleans up; what was accepted is in Glyph.
                    self.records.run("DELETE FROM annotations WHERE id = ?", number)

    # --- from Glyph to Label Studio ---

    def push(self, tasks):
        """Makes the tasks that wait and are not there, opens and closes those that are. `tasks` are those of Label Studio."""
        shown = {}
        for task in tasks.values():
            meta = meta_of(task)
            if meta and (meta["workflow"], meta["step_id"]) == (self.glyph.workflow, self.glyph.step):
                shown.setdefault((meta["task_id"], meta["visit"]), []).append(task)
        missing, unfit, waiting = [], {}, set()
        for listed in self.glyph.waiting():
            waiting.add(listed["task_id"])
            slots = self.slots(listed)
            if slots is None:
                continue
            there = shown.pop((listed["task_id"], slots["visit"]), [])
            if there:
                self.set_open(there[0], slots["places"] - slots["submitted"])
                for again in there[1:]:
                    self.tell("warning", f"task {again['id']} of Label Studio is the same as task {there[0]['id']}: closed")
                    self.set_open(again, 0)
            elif self.faults_of(listed["revision"]):
                unfit[listed["task_id"]] = "; ".join(self.faults_of(listed["revision"]))
            else:
                missing.append((listed["task_id"], slots))
        for left in shown.values():
            for task in left:
                self.set_open(task, 0)
        kept = {row["task_id"] for row in self.records.rows("SELECT task_id FROM slots")}
        for task_id in kept - waiting:
            self.records.run("DELETE FROM slots WHERE task_id = ?", task_id)
        for start in range(0, len(missing), IMPORT_BATCH):
            unfit |= self.create(missing[start : start + IMPORT_BATCH])
        self.records.run("DELETE FROM not_shown")
        for task_id, detail in unfit.items():
            self.tell("warning", f"task {task_id} cannot be shown: {detail}")
            self.records.run("INSERT INTO not_shown VALUES (?, ?)", task_id, detail)

    def slots(self, listed):
        """Visit, places and submissions of a task that waits in the step; none where it has moved on meanwhile."""
        kept = next(iter(self.records.rows("SELECT * FROM slots WHERE task_id = ?", listed["task_id"])), None)
        if kept is None or kept["version"] != listed["version"]:
            state = self.glyph.state(listed["task_id"])
            visit = current_visit(state, self.glyph.step) if state else None
            if visit is None:
                return None
            row = (listed["task_id"], state["version"], visit["number"], visit["places"], len(visit.get("annotations", ())))
            self.records.run("INSERT OR REPLACE INTO slots VALUES (?, ?, ?, ?, ?)", *row)
            return dict(zip(("task_id", "version", "visit", "places", "submitted"), row))
        return kept

    def create(self, missing):
        """Makes tasks, and returns why some could not be made."""
        made, unfit = [], {}
        for task_id, slots in missing:
            state = self.glyph.state(task_id)
            data = (state or {}).get("input")
            if not isinstance(data, dict):
                unfit[task_id] = "the task has no input with keys, which Label Studio could show"
                continue
            meta = {"workflow": self.glyph.workflow, "step_id": self.glyph.step, "task_id": task_id, "visit": slots["visit"]}
            made.append((slots, {"data": data, "meta": {"glyph": meta}}))
        for part in self.created(made, unfit):
            for number, (slots, task) in part:
                new = {"id": number, "annotations": [], "overlap": self.project["maximum_annotations"], "is_labeled": False}
                self.set_open(new, slots["places"] - slots["submitted"])
                log.info("task %s waits in Label Studio as task %s", task["meta"]["glyph"]["task_id"], number)
        return unfit

    def created(self, made, unfit):
        """Numbers beside what was made. What Label Studio refuses as a whole is tried one by one."""
        if not made:
            return
        try:
            numbers = self.studio.create([task for _, task in made])
            yield list(zip(numbers, made))
        except Answered as error:
            if error.status != 400:
                raise
            if len(made) == 1:
                unfit[made[0][1]["meta"]["glyph"]["task_id"]] = f"{error}: {json.dumps(error.body.get('validation_errors', ''))}"
                return
            for one in made:
                yield from self.created([one], unfit)

    def set_open(self, task, needed):
        """Asks for so many more people, or for nobody."""
        counted = [one for one in task["annotations"] if not one["was_cancelled"] or self.project["skip_queue"] == "IGNORE_SKIPPED"]
        wanted = (max(1, len(counted) + max(0, needed)), needed <= 0)
        if (task.get("overlap"), task.get("is_labeled")) != wanted:
            try:
                self.studio.set_open(task["id"], *wanted)
            except Answered as error:
                if error.status != 404:  # deleted meanwhile
                    raise

    def settle(self, number):
        """Opens or closes one task of Label Studio after Glyph has heard of it."""
        task = self.studio.task(number)
        meta = meta_of(task) if task else None
        if meta is None or (meta["workflow"], meta["step_id"]) != (self.glyph.workflow, self.glyph.step):
            return
        state = self.glyph.state(meta["task_id"])
        visit = current_visit(state, self.glyph.step) if state and not self.glyph.is_paused() else None
        is_open = visit is not None and visit["number"] == meta["visit"]
        self.set_open(task, visit["places"] - len(visit.get("annotations", ())) if is_open else 0)

    def round(self, verbs=("sync", "push")):
        """One pass over everything. Only one process at a time makes tasks, so that none is made twice."""
        with open(f"{self.records.path}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.read_project()
            since = now()
            tasks = self.studio.tasks()
            if "sync" in verbs:
                self.sync(tasks, since)
            if "push" in verbs:
                self.push(tasks)


def meta_of(task):
    """What `push` has written into a task; none where somebody else made it."""
    meta = (task.get("meta") or {}).get("glyph") if isinstance(task.get("meta"), dict) else None
    if not isinstance(meta, dict) or not all(isinstance(meta.get(key), str) for key in ("workflow", "step_id", "task_id")):
        return None
    try:
        return meta | {"task_id": str(uuid.UUID(meta["task_id"])), "visit": int(meta["visit"])}
    except (KeyError, TypeError, ValueError):
        return None


def annotation_uuid(task_id, annotation):
    return str(uuid.uuid5(uuid.UUID(task_id), f"label-studio/annotations/{annotation['id']}"))


def accepted(state, step, annotation_id):
    """The annotation as Glyph has it, in whichever visit of the step."""
    for visit in state.get("steps", {}).get(step, {}).get("visits", ()):
        for annotation in visit.get("annotations", ()):
            if annotation["annotation_id"] == annotation_id:
                return annotation
    return None


def current_visit(state, step):
    """The visit of the step that asks for people now; none where it asks nobody."""
    visits = state.get("steps", {}).get(step, {}).get("visits", ())
    is_asking = state["status"] == "running" and visits and visits[-1]["status"] == "active" and not visits[-1].get("pause")
    return visits[-1] if is_asking else None


def is_paused(state, step):
    visits = state.get("steps", {}).get(step, {}).get("visits", ())
    return state["status"] == "paused" or bool(visits and visits[-1].get("pause"))


def compared(found, submission, task_id):
    """Glyph does not edit accepted work: what becomes of an annotation that it has already."""
    same = found["data"] == submission["data"] and found["user_id"] == submission["user_id"]
    is_older = revision_of({"updated_at": found["submitted_at"]}) > submission["submitted_at"] if found.get("submitted_at") else False
    if same or is_older:
        return Outcome("accepted", task_id=task_id)
    return Outcome("refused", "changed_later", "it was changed in Label Studio after Glyph had accepted it, and Glyph keeps what it has", task_id)


# --- webhooks ---


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, adapter, secret):
        super().__init__(address, Webhooks)
        self.adapter, self.secret = adapter, secret
        self.to_settle = queue.SimpleQueue()
        self.last_fault = "no round has been made yet"
        self.slots = threading.BoundedSemaphore(WEBHOOKS_AT_ONCE)

    def rounds(self, seconds, stopped):
        """Does a round each time the seconds are over, and between them settles the tasks of which webhooks have come."""
        due = datetime.datetime.now()
        while not stopped.is_set():
            left = (due - datetime.datetime.now()).total_seconds()
            try:
                if left <= 0:
                    due = datetime.datetime.now() + datetime.timedelta(seconds=seconds)
                    self.adapter.round()
                    self.last_fault = None
                else:
                    number = self.to_settle.get(timeout=left)
                    if number is not None:
                        self.adapter.settle(number)
            except queue.Empty:
                pass
            except (Away, Answered, Misfit) as error:
                # The next round finds it again.
                self.last_fault = str(error)
                log.error("%s", error)
            except Exception as error:
                self.last_fault = f"{type(error).__name__}: {error}"
                log.exception("a round failed")


class Webhooks(http.server.BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS_MAX
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status >= 400:
            self.close_connection = True
            self.send_header("connection", "close")
        if status == 503:
            self.send_header("retry-after", "5")
        self.end_headers()
        self.wfile.write(data)

    def is_known(self):
        given = self.headers.get(SECRET_HEADER, "")
        if hmac.compare_digest(given.encode("utf-8", "replace"), self.server.secret.encode()):
            return True
        log.warning("a request without the right %s was refused", SECRET_HEADER)
        self.answer(401, {"detail": f"the header {SECRET_HEADER} is missing or wrong"})
        return False

    def do_GET(self):
        if self.path == "/healthz":
            fault = self.server.last_fault
            self.answer(503 if fault else 200, {"fault": fault})
        elif self.path == "/refused":
            if self.is_known():
                records = self.server.adapter.records
                self.answer(200, {"annotations": records.refused(), "tasks": records.not_shown()})
        else:
            self.answer(404, {"detail": "there are POST /, GET /refused and GET /healthz"})

    def do_POST(self):
        if not self.is_known():
            return
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            length = -1
        if length < 0:
            self.answer(411, {"detail": "a content-length is needed"})
        elif length > WEBHOOK_BYTES_MAX:
            log.error("a webhook of %s bytes was refused; the next round brings its annotation", length)
            self.answer(413, {"detail": f"at most {WEBHOOK_BYTES_MAX} bytes"})
        else:
            with self.server.slots:
                self.answer(*self.taken(self.rfile.read(length)))

    def taken(self, body):
        """Status and body of the answer to a webhook: 2xx only after Glyph has decided on everything in it, durably."""
        adapter = self.server.adapter
        try:
            event = json.loads(body)
            action = event["action"]
            if not isinstance(action, str):
                raise TypeError("`action` is no text")
            if action not in ACTIONS:
                return 200, {"detail": f"{action} is of no matter here"}
            if action == "ANNOTATIONS_DELETED":
                numbers = [int(one["id"]) for one in event["annotations"]]
                pairs = []
            else:
                many = action == "ANNOTATIONS_CREATED"
                pairs = list(zip(event["annotation"], event["task"])) if many else [(event["annotation"], event["task"])]
                for annotation, task in pairs:
                    if annotation["task"] != task["id"]:
                        raise ValueError("an annotation is of another task")
                    revision_of(annotation)
                    annotation["id"], annotation["result"], annotation["was_cancelled"]
                numbers = []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("a webhook that cannot be read: %s: %s", type(error).__name__, error)
            return 400, {"detail": f"not a webhook with its payload: {type(error).__name__}: {error}"}
        told = []
        try:
            for annotation, task in pairs:
                if annotation.get("project") != adapter.studio.project:
                    told.append({"annotation": annotation["id"], "outcome": "ignored", "detail": "it is of another project"})
                    continue
                outcome = adapter.deliver(annotation, task)
                told.append({"annotation": annotation["id"], "outcome": outcome.kind, "code": outcome.code, "detail": outcome.detail})
                self.server.to_settle.put(task["id"])
            for number in numbers:
                self.server.to_settle.put(adapter.delete(number))
        except (Away, Answered, Misfit, sqlite3.Error) as error:
            # Label Studio does not send again; the next round brings it.
            log.error("a webhook has to wait: %s", error)
            return 503, {"detail": str(error)}
        except Exception as error:
            log.exception("a webhook failed")
            return 500, {"detail": f"{type(error).__name__}: {error}"}
        return 200, {"outcomes": told}


def serve(adapter, listen, secret, seconds):
    host, _, port = listen.rpartition(":")
    try:
        server = Server((host.strip("[]") or "127.0.0.1", int(port)), adapter, secret)
    except (OSError, ValueError) as error:
        raise Misfit(f"--listen {listen}: {error}") from error
    stopped = threading.Event()
    rounds = threading.Thread(target=server.rounds, args=(seconds, stopped))
    rounds.start()

    def stop(*_):
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("listening on %s:%s", *server.server_address[:2])
    server.serve_forever()
    stopped.set()
    server.to_settle.put(None)
    rounds.join()


def register(studio, url, secret):
    """Makes or changes the webhook of the project, so that running it again adds none."""
    wanted = {
        "url": url, "project": studio.project, "headers": {SECRET_HEADER: secret}, "send_payload": True, "send_for_all_actions": False,
        "is_active": True, "actions": list(ACTIONS),
    }
    there = [hook for hook in studio.call("GET", f"/api/webhooks/?project={studio.project}") if hook["url"] == url]
    if there:
        studio.call("PATCH", f"/api/webhooks/{there[0]['id']}/", wanted)
    else:
        studio.call("POST", "/api/webhooks/", wanted)
    log.info("Label Studio calls %s for each annotation of project %s", url, studio.project)


# --- settings ---


def secret_of(name, is_needed):
    """A secret from the environment: NAME, or the file that NAME_FILE names."""
    value, path = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value and path:
        raise Misfit(f"both {name} and {name}_FILE are set: take one out")
    if path:
        try:
            with open(path, encoding="utf-8") as file:
                value = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Misfit(f"{name}_FILE: {error}") from error
    if is_needed and not value:
        raise Misfit(f"{name} is not set, nor {name}_FILE")
    return value or None


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="From the environment: GLYPH_URL, GLYPH_TOKEN, LABEL_STUDIO_URL, LABEL_STUDIO_TOKEN, WEBHOOK_SECRET; each token and the secret also as NAME_FILE.",
    )
    parser.add_argument("--workflow", help="id of the workflow")
    parser.add_argument("--step", default="annotate", help="the step that is labelled in Label Studio (annotate)")
    parser.add_argument("--project", type=int, help="number of the project in Label Studio, as its address has it")
    parser.add_argument("--users", metavar="FILE", help="CSV with the columns email, user (a key or UUID) and, if wanted, roles (a+b); without it the address is the key")
    parser.add_argument("--records", metavar="FILE", default="label-studio.sqlite", help="what is remembered (label-studio.sqlite)")
    parser.add_argument("--pixels", action="store_true", help="boxes and polygons in pixels instead of percent")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in ("check", "push", "sync", "refused"):
        verbs.add_parser(verb)
    webhook = verbs.add_parser("webhook")
    webhook.add_argument("url", metavar="URL")
    serving = verbs.add_parser("serve")
    serving.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT")
    serving.add_argument("--every", type=float, default=60, metavar="SECONDS", help="between two rounds (60)")
    options = parser.parse_args()
    if options.verb != "refused":
        for name in ("workflow", "project"):
            if getattr(options, name) is None:
                parser.error(f"--{name} is needed")
    return options


def list_refused(records):
    refused, tasks = records.refused(), records.not_shown()
    for row in refused:
        print(f"annotation {row['id']} of task {row['task']} by user {row['person']} ({row['task_id']}): {row['code']}: {row['detail']}")
    for row in tasks:
        print(f"task {row['task_id']} is not shown: {row['detail']}")
    return 1 if refused or tasks else 0


def main():
    options = arguments()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    try:
        records = Records(options.records)
        if options.verb == "refused":
            return list_refused(records)
        if not os.environ.get("LABEL_STUDIO_URL"):
            raise Misfit("LABEL_STUDIO_URL is not set")
        glyph_url = os.environ.get("GLYPH_URL", "http://localhost:8080")
        glyph = Glyph(glyph_url, secret_of("GLYPH_TOKEN", False), options.workflow, options.step)
        studio = LabelStudio(os.environ["LABEL_STUDIO_URL"], secret_of("LABEL_STUDIO_TOKEN", True), options.project)
        adapter = Adapter(glyph, studio, People(options.users), records, options.pixels)
        secret = secret_of("WEBHOOK_SECRET", options.verb in ("serve", "webhook"))
        adapter.check()
        if options.verb == "serve":
            serve(adapter, options.listen, secret, options.every)
        elif options.verb == "webhook":
            register(studio, options.url, secret)
        elif options.verb == "check":
            print(f"step `{options.step}` of `{options.workflow}` fits project {options.project}")
        else:
            adapter.round((options.verb,))
    except (Misfit, sqlite3.Error) as error:
        print(error, file=sys.stderr)
        return 2
    except Away as error:
        print(error, file=sys.stderr)
        return 4
    except Answered as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

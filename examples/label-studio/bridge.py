"""Between the two: annotations become submissions to Glyph, and what waits in Glyph becomes tasks of Label Studio."""

import fcntl
import json
import logging
import uuid

import answers
from records import Outcome, now, person_of, revision_of
from services import Answered, Misfit

IMPORT_BATCH = 200  # tasks made with one call

log = logging.getLogger("label-studio")


class NotTaken(Exception):
    """An annotation that cannot become a submission."""

    def __init__(self, code, detail):
        super().__init__(detail)
        self.code = code


class Bridge:
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
        revision = revision_of(annotation)
        known = before and (before["outcome"], before["code"], before["revision"])
        is_older = before and before["revision"] > revision
        if known != (outcome.kind, outcome.code, revision) and not is_older and outcome.kind != "skipped":
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
        if state["workflow"] != self.glyph.workflow:
            return Outcome("refused", "unknown_task", f"Glyph has the task in the workflow `{state['workflow']}`", task_id)
        found = accepted(state, self.glyph.step, annotation_uuid(task_id, annotation))
        if annotation.get("was_cancelled"):
            return changed_later(task_id) if found else Outcome("skipped", task_id=task_id)
        try:
            submission = self.submission(annotation, state, found)
        except NotTaken as error:
            return changed_later(task_id) if found else Outcome("refused", error.code, str(error), task_id)
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

    def submission(self, annotation, state, found):
        """What Glyph is to be told. Whoever had an annotation accepted need not be listed any more."""
        email = self.studio.email(person_of(annotation))
        user, roles = (self.people.find(email) if email else None) or (found["user_id"] if found else None, [])
        if user is None:
            who = email or f"user {person_of(annotation)} of Label Studio"
            raise NotTaken("unknown_user", f"{who} is nobody whom the list of users names")
        question = self.glyph.question(state["revision"])
        if question is None:
            raise NotTaken("unmapped", f"revision {state['revision']} of the workflow has no such step")
        try:
            data = question.data(self.parts(annotation, state))
        except answers.Unmapped as error:
            raise NotTaken("unmapped", str(error)) from error
        annotation_id = annotation_uuid(state["task_id"], annotation)
        return {"annotation_id": annotation_id, "user_id": user, "data": data, "submitted_at": revision_of(annotation), "roles": roles}

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
                    if row["outcome"] == "refused":
                        log.warning("annotation %s (%s) went with its task %s, and is off the list", number, row["code"], row["task"])

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
                self.adjust(there[0], slots["places"] - slots["submitted"])
                for again in there[1:]:
                    self.tell("warning", f"task {again['id']} of Label Studio is the same as task {there[0]['id']}: closed")
                    self.set_open(again, 0)
            elif self.faults_of(listed["revision"]):
                unfit[listed["task_id"]] = "; ".join(self.faults_of(listed["revision"]))
            else:
                missing.append((listed["task_id"], slots))
        for left in shown.values():
            for task in left:
                self.adjust(task, 0)
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

    def wanted(self, task, needed):
        """`overlap` and `is_labeled` with which so many more people are asked, or nobody."""
        counted = [one for one in task["annotations"] if not one["was_cancelled"] or self.project["skip_queue"] == "IGNORE_SKIPPED"]
        return max(1, len(counted) + max(0, needed)), needed <= 0

    def set_open(self, task, needed):
        wanted = self.wanted(task, needed)
        if (task["overlap"], task["is_labeled"]) != wanted:
            try:
                self.studio.set_open(task["id"], *wanted)
            except Answered as error:
                if error.status != 404:  # deleted meanwhile
                    raise

    def adjust(self, task, needed):
        """As `set_open`, of a task that was listed a while ago: what would change is looked at again first."""
        if (task["overlap"], task["is_labeled"]) != self.wanted(task, needed):
            self.settle(task["id"])

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
            self.people.read()
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
    return Outcome("accepted", task_id=task_id) if same or is_older else changed_later(task_id)


def changed_later(task_id):
    return Outcome("refused", "changed_later", "it was changed in Label Studio after Glyph had accepted it, and Glyph keeps what it has", task_id)

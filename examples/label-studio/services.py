"""The two services, as JSON over HTTP, and the ways in which they fail."""

import http.client
import json
import urllib.error
import urllib.request

import answers

REQUEST_SECONDS_MAX = 20
LISTING_PAGE = 200  # tasks of Label Studio, with their annotations
LISTING_TRIES = 5
TASKS_PAGE = 1000  # tasks of Glyph


class Away(Exception):
    """A service that cannot be reached or is not ready: try again later."""


class Misfit(Exception):
    """Settings that do not fit, with a sentence on how to mend them."""


class Answered(Exception):
    """An answer that says no."""

    def __init__(self, what, status, body):
        super().__init__(f"{what} answered {status}: {body.get('detail') or body.get('title') or ''}".rstrip(": "))
        self.status, self.body = status, body


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

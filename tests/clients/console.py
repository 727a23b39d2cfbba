"""The web console in a browser: signs in, finds a stuck task by its cause, resolves it and sees it move; travels in time;
shows a viewer no verb that it may not use.

Needs Chromium: one of the system, or the one that `playwright install chromium` fetches.
"""

import base64
import hashlib
import json
import os
import random
import shutil
import tempfile
import urllib.request

from playwright.sync_api import Error, sync_playwright

from glyph_client import Answering, Deployment, HttpServer, derived, fresh, wait_until

WORKFLOW = """
workflow:
  id: moderation
  settings: {{ max_retries: 0 }}
  steps:
    - {{ id: annotate, type: annotation, field: label, completion: {{ type: annotation_count, count: 2 }} }}
    - {{ id: notify, type: auto_process, handler: webhook, config: {{ url: "{url}" }} }}
  transitions:
    - {{ from: annotate, to: notify }}
    - {{ from: notify, to: _complete }}
"""
TOKENS = {"operator": "token of olga", "viewer": "token of vera"}
TRAVELS = 100
SECONDS = 20


def main(checks):
    with sync_playwright() as playwright:
        browser = browser_of(playwright)
        if browser is None:
            print("  skipped: there is no Chromium (Debian, Ubuntu: package chromium); the console was not looked at", flush=True)
            return
        with browser, Receiver() as receiver, Deployment("console") as glyph, tokens_file() as tokens:
            glyph.create_workflow(WORKFLOW.format(url=receiver.url))
            worker = glyph.start_worker(
                GLYPH_API_TOKENS_FILE=tokens, GLYPH_WEBHOOK_HOSTS=receiver.host, GLYPH_WEBHOOK_ALLOW_PRIVATE="true",
                GLYPH_WEBHOOK_SECRET="whsec_" + base64.b64encode(b"a secret of the check").decode(),
            )
            check(checks, browser, receiver, Client(worker.port))


def browser_of(playwright):
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        return playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
    except Error:
        return None


def check(checks, browser, receiver, client):
    tasks = [derived("console", str(number)) for number in range(8)]
    for task in tasks:
        client.post(f"tasks/{task}/start", {"workflow": "moderation", "input": {"text": "You there!"}})
        for person, label in (("ann", "fine"), ("bob", "fine" if task > tasks[0] else "toxic")):
            client.post(f"tasks/{task}/submit", {"annotation": {"user_id": derived(person), "data": {"label": label}}})
    wait_until("incidents", lambda: len(client.get("tasks?incidents=true")["tasks"]) == len(tasks), 60)

    page = browser.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" and "401" not in message.text else None)
    page.on("request", lambda request: faults.append(request.url) if not request.url.startswith(client.root) else None)
    page.goto(f"{client.root}/ui/")
    checks.true("without a session the page asks for a token", seen(page, "h1", "Sign in"))
    sign_in(page, "nobody's")
    checks.true("an unknown token is refused in words", seen(page, "[role=alert]", "does not know this token"))
    sign_in(page, TOKENS["operator"])
    checks.true("a known one opens the console", seen(page, "h1", "Now"))
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    cookie = cookies.get("glyph_session", {})
    checks.equal("the token is where no script and no other site gets it", (cookie.get("httpOnly"), cookie.get("sameSite")), (True, "Strict"))
    checks.true("figures come by themselves", seen(page, ".tile", "Incidents") and seen(page, "#live", "live"))

    find_and_resolve(checks, page, receiver, client)
    travel(checks, page, client, tasks)
    faults and print(*faults, sep="\n")
    checks.equal("the pages fetch nothing from elsewhere and log no error", faults, [])
    page.get_by_role("button", name="Sign out").click()
    checks.true("signing out ends the session", seen(page, "h1", "Sign in") and not page.context.cookies())

    sign_in(page, TOKENS["viewer"])
    page.goto(f"{client.root}/ui/#/task/{tasks[-1]}")
    checks.true("a viewer is told why there is no verb", seen(page, "main", "Your role is viewer"))
    checks.equal("and has none", page.get_by_role("button", name="Retry", exact=True).count(), 0)
    page.close()


def find_and_resolve(checks, page, receiver, client):
    page.evaluate("window.sameDocument = true")
    page.click("#nav a[data-view=stuck]")
    card = page.locator(".card", has_text="handler failed")
    card.wait_for(timeout=SECONDS * 1000)
    checks.true("what is stuck is grouped by cause, with the number of tasks", "8 tasks" in card.inner_text())
    checks.true("and the sentence of the engine", "retry" in card.inner_text() and "503" in card.inner_text())
    link = card.locator(".examples a").first
    task = link.get_attribute("title")
    link.click()
    checks.true("the task says what holds it", seen(page, ".waiting", "Held by an incident"))
    offered = page.locator("section[aria-label='What can be done'] > .actions button").all_inner_texts()
    verbs = [verb for verb in client.get(f"tasks/{task}/explain")["verbs"] if verb["accepted"]]
    checks.equal("each verb that the engine would accept is a button", len(offered), len(verbs))
    receiver.status = 200
    page.get_by_role("button", name="Retry", exact=True).click()
    page.locator("dialog input[name=reason]").fill("the receiver is back")
    page.locator("dialog button.primary").click()
    checks.true("it moves without a reload", seen(page, ".head .badge", "completed") and page.evaluate("window.sameDocument"))
    checks.true("and the history says who did it", seen(page, ".timeline", "resolved by retry"))
    receiver.status = 503

    # Somebody else's command is seen, too.
    other = next(one["task_id"] for one in client.get("tasks?incidents=true")["tasks"])
    page.goto(f"{client.root}/ui/#/task/{other}")
    checks.true("another task is held", seen(page, ".head .badge", "running"))
    page.evaluate("window.sameDocument = true")
    client.post(f"tasks/{other}/pause", {"reason": "seen from elsewhere"})
    checks.true("what others do is shown by itself", seen(page, ".summary", "seen from elsewhere") and page.evaluate("window.sameDocument"))
    client.post(f"tasks/{other}/resume", {})


def travel(checks, page, client, tasks):
    chosen = random.Random(2008)
    wrong = []
    for count in range(TRAVELS):
        task = chosen.choice(tasks)
        version = chosen.randint(1, client.get(f"tasks/{task}/state")["version"])
        page.goto(f"{client.root}/ui/#/task/{task}?at={version}")
        page.locator(f"#at-version:text-is('{version}')").wait_for(timeout=SECONDS * 1000)
        page.locator(f"h1:has-text('{task}')").wait_for(timeout=SECONDS * 1000)
        shown = json.loads(page.locator("#raw-state").text_content())
        if shown != client.get(f"tasks/{task}/state?at_version={version}"):
            wrong.append((task, version))
    checks.all(f"the state at {TRAVELS} random versions is that of the API", wrong)
    task = tasks[0]
    page.goto(f"{client.root}/ui/#/task/{task}?at=1")
    page.locator("#at-version:text-is('1')").wait_for(timeout=SECONDS * 1000)
    page.locator("#version").focus()
    page.keyboard.press("ArrowRight")
    checks.true("the slider works by the keyboard", seen(page, "#at-version", "2"))
    page.get_by_role("button", name="Newest").click()
    checks.true("differing answers are marked", seen(page, "tr.differs", "≠") and page.locator("td.other").count() == 2)


def sign_in(page, token):
    page.locator("#token").fill(token)
    page.get_by_role("button", name="Sign in").click()


def seen(page, selector, text):
    """Whether an element with that text is there in time."""
    try:
        page.locator(selector, has_text=text).first.wait_for(timeout=SECONDS * 1000)
        return True
    except Error:
        return False


class Client:
    """The API, as an operator."""

    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, body):
        return self.send("POST", path, json.dumps(body).encode())

    def send(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {TOKENS['operator']}", "Content-Type": "application/json", "Idempotency-Key": fresh()}
        request = urllib.request.Request(f"{self.root}/api/v1/{path}", body, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


class tokens_file(tempfile.TemporaryDirectory):
    def __enter__(self):
        path = os.path.join(super().__enter__(), "tokens")
        with open(path, "w") as file:
            for role, token in TOKENS.items():
                file.write(f"{role}:{hashlib.sha256(token.encode()).hexdigest()} name={role}\n")
        return path


class Receiver(HttpServer):
    """A receiver of webhooks that is out of order until `status` says otherwise."""

    def __init__(self):
        self.status = 503
        receiver = self

        class Handler(Answering):
            def do_POST(self):
                self.body()
                self.answer(receiver.status, b"{}")

        super().__init__(Handler)
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}/done"

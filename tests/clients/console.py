"""The web console in a browser: signs in, finds a stuck task by its cause, resolves it and sees it move; stores a workflow, tries it, starts
a task of it and completes a goal; travels in time; shows a viewer no verb that it may not use. Every page in both themes by axe's rules, and
the main ones by the keyboard alone.

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

from axe_playwright_python.sync_playwright import Axe
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
goals:
  - {{ id: volume, type: volume, target: 100, unit: annotations }}
  - {{ id: handover, type: manual, checklist: [read by legal, copied], require_reason: true }}
"""
# What somebody types who is in a hurry, and what they type then.
FAULTY = "workflow:\n  id: typed\n  steps:\n    - { id: annotate, typ: annotation }\n"
TYPED = """
workflow:
  id: typed
  steps:
    - id: annotate
      type: annotation
      answer: { field: label, kind: category, values: [a, b] }
      completion: { type: annotation_count, count: 2 }
      consensus: { threshold: 1.0 }
    - { id: decide, type: adjudication }
  transitions:
    - { from: annotate, to: _complete, condition: { type: on_agreement } }
    - { from: annotate, to: decide, condition: { type: on_disagreement } }
    - { from: decide, to: _complete }
"""
VIEWS = (
    "now", "stuck", "tasks", "task/{task}", "dead", "rejected", "jobs", "outbox", "log", "workflow", "workflow/moderation", "trial/moderation",
    "people", "people/{person}", "goals", "agreement", "labels",
)
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
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" and not any(code in message.text for code in ("401", "422")) else None)
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
    author(checks, page, client)
    travel(checks, page, client, tasks)
    by_rules(checks, page, client, tasks[0])
    by_keyboard(checks, page, client, tasks[-1])
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


def author(checks, page, client):
    """Stores a workflow, with a fault at first; tries it; starts a task; completes a goal."""
    page.goto(f"{client.root}/ui/#/workflow")
    page.get_by_role("button", name="New workflow").click()
    page.locator("dialog textarea").fill(FAULTY)
    page.locator("dialog button.primary").click()
    said = seen(page, "dialog [role=alert]", "Line 4")
    checks.true("what is wrong with a file is said beside it, and the text is kept", said and "typ:" in page.locator("dialog textarea").input_value())
    page.locator("dialog textarea").fill(TYPED)
    page.locator("dialog button.primary").click()
    checks.true("a file becomes a revision", seen(page, "h1", "typed"))

    page.get_by_role("link", name="Try it").click()
    labels = page.locator(".tile:has-text('Labels a task') strong")
    labels.wait_for()
    checks.equal("a trial says what it takes", labels.inner_text(), "2.00")
    page.get_by_label("annotate: people asked").focus()
    page.keyboard.press("ArrowRight")
    checks.true("a slider plays it again, beside what is stored", seen(page, ".tile", "2.00 as stored") and labels.inner_text() == "3.00")

    page.goto(f"{client.root}/ui/#/workflow/typed")
    page.get_by_role("button", name="Start a task").click()
    page.locator("dialog input[name=key]").fill("typed-1")
    page.locator("dialog button.primary").click()
    checks.true("a task is started by its key", seen(page, ".waiting", "annotate"))
    task = client.get("tasks?workflow=typed")["tasks"][0]["task_id"]
    for person in ("ann", "bob"):
        client.post(f"tasks/{task}/submit", {"annotation": {"user_id": derived(person), "data": {"label": "a"}}})
    page.goto(f"{client.root}/ui/#/workflow/typed")
    checks.true("the drawing shows which way it went", seen(page, ".diagram .went text", "1"))
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the file").click()
    checks.true("the file comes back", "kind: category" in text_of(download))

    page.goto(f"{client.root}/ui/#/labels?workflow=typed")
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as JSON Lines").click()
    checks.equal("the labels come as a file", [json.loads(line)["value"] for line in text_of(download).splitlines()], ["a"])

    page.goto(f"{client.root}/ui/#/goals")
    checks.true("a goal shows how it went", seen(page, "article:has-text('volume')", "of 100") and page.locator("svg.burnup").count() >= 1)
    checks.equal("only a goal that waits for a person can be completed", page.get_by_role("button", name="Complete").count(), 1)
    page.get_by_role("button", name="Complete").click()
    for box in page.locator("dialog input[type=checkbox]").all():
        box.check()
    page.locator("dialog input[name=reason]").fill("handed over")
    page.locator("dialog button.primary").click()
    checks.true("and is", seen(page, "article:has-text('handover') .badge", "met"))


def text_of(download):
    with open(download.value.path()) as file:
        return file.read()


def by_rules(checks, page, client, task):
    """No page breaks a rule of axe, by day and by night."""
    axe, broken = Axe(), []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for view in VIEWS:
            view = view.format(task=task, person=derived("ann"))
            page.goto(f"{client.root}/ui/#/{view}")
            page.locator("main h1").first.wait_for()
            # The second time only colours differ.
            options = {} if scheme == "light" else {"runOnly": ["color-contrast"]}
            for violation in axe.run(page, options=options).response["violations"]:
                broken.append((scheme, view, violation["id"], [node["target"] for node in violation["nodes"]][:3]))
    page.emulate_media(color_scheme="light")
    checks.all(f"no rule of axe is broken on {len(VIEWS)} pages, light and dark", broken)


DRAWN_ANEW_MAX = 5
# What can be used on a page, as a person sees it; numbered, so that it is known again.
USABLE = """() => {
    const found = [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex="0"]')]
    const usable = found.filter(one => !one.disabled && one.tabIndex >= 0 && one.checkVisibility())
    usable.forEach((one, at) => one.setAttribute('data-usable', at))
    return usable.length
}"""
FOCUSED = """() => {
    const style = getComputedStyle(document.activeElement)
    return [document.activeElement.getAttribute('data-usable'), style.outlineStyle !== 'none' && style.outlineWidth !== '0px']
}"""


def tabbed_through(page):
    """What Tab does not reach, and where one does not see that it did. Once more where the page was drawn anew meanwhile."""
    for _ in range(DRAWN_ANEW_MAX):
        page.evaluate("document.activeElement.blur()")
        count = page.evaluate(USABLE)
        missing, unseen = {str(number) for number in range(count)}, set()
        # Tab goes on from where one was before, leaves the page at its end, and comes back at its beginning.
        for _ in range(2 * count):
            page.keyboard.press("Tab")
            which, is_seen = page.evaluate(FOCUSED)
            missing.discard(which)
            if which is not None and not is_seen:
                unseen.add(which)
            if not missing:
                break
        if page.locator("[data-usable]").count() >= count:
            break
    return missing, unseen


def by_keyboard(checks, page, client, task):
    """Everything that can be used is reached by Tab, and one sees where one is; a dialog is left by Escape, back to where it was opened."""
    missed = []
    for view in ("stuck", f"task/{task}", "workflow/typed", "trial/typed", "labels", "goals"):
        page.goto(f"{client.root}/ui/#/{view}")
        page.locator("main h1").first.wait_for()
        if view.startswith("trial"):
            page.get_by_text("Labels a task").wait_for()
        lost, unseen = tabbed_through(page)
        if lost or unseen:
            missed.append((view, described(page, lost), described(page, unseen)))
    checks.all("everything is reached by Tab, and seen to be", missed)

    page.goto(f"{client.root}/ui/#/task/{task}")
    pause = page.get_by_role("button", name="Pause", exact=True)
    pause.focus()
    page.keyboard.press("Enter")
    checks.true("a dialog takes the focus", page.locator("dialog").evaluate("dialog => dialog.contains(document.activeElement)"))
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    checks.true("Escape leaves it, back to its button", pause.evaluate("button => button === document.activeElement"))


def described(page, numbers):
    found = [page.locator(f"[data-usable='{number}']").first for number in sorted(numbers)[:3]]
    return [one.evaluate("one => one.outerHTML.slice(0, 80)") for one in found if one.count()]


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

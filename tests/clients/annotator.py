"""The reference client for annotators, in a browser: claim, label by the step's schema, draft, close, resume, submit, adjudicate, review."""

import hashlib
import json
import pathlib
import shutil
import tempfile

from playwright.sync_api import sync_playwright

from glyph_client import Deployment, fresh, wait_until

WORKFLOW = """
workflow:
  id: tickets
  name: Tickets of the support
  steps:
    - id: annotate
      name: What is it about?
      type: annotation
      description: Read the ticket and say what it is about.
      completion: { type: annotation_count, count: 2 }
      answer:
        kind: record
        fields:
          topic: { kind: category, values: [billing, bug, praise] }
          urgency: { kind: ordinal, values: [low, medium, high] }
          products: { kind: set, values: [app, web, api] }
          minutes: { kind: number, min: 0, max: 600 }
          people: { kind: spans, text: input.text }
      consensus: { threshold: 1.0, mode: all_or_nothing, on_disagreement: { strategy: adjudication, scope: disputed } }
    - id: adjudicate
      type: adjudication
      assignment: { required_roles: [lead] }
    - id: check
      type: review
      assignment: { required_roles: [chief] }
  transitions:
    - { from: annotate, to: check, condition: { type: on_agreement } }
    - { from: annotate, to: adjudicate, condition: { type: on_disagreement } }
    - { from: adjudicate, to: check }
    - { from: check, to: _complete, condition: { type: on_agreement } }
    - { from: check, to: _failed, condition: { type: on_disagreement } }
"""
TEXT = "Since the 😀 update the app crashes whenever Anna pays."
AT = TEXT.index("Anna")  # in code points
ANSWER = {"topic": "bug", "urgency": "high", "products": ["app"], "minutes": 15, "people": [{"start": AT, "end": AT + 4, "tag": "person"}]}


def main(checks):
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser_path is None:
        print("  (Chromium is not installed: left out)")
        return
    with Deployment("annotator") as glyph, tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        glyph.create_workflow(WORKFLOW)
        task = fresh()
        glyph.glyph("task", "start", task, "--workflow", "tickets", "--input", json.dumps({"text": TEXT, "from": "berta@example.org"}))
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        worker = glyph.start_worker()
        url = f"http://127.0.0.1:{worker.port}/annotate"
        play_unknown(checks, glyph, browser, url, task)

        tokens, lines = {}, []
        for user, roles in (("ben", ""), ("lea", "lead"), ("kim", "chief")):
            tokens[user] = fresh()
            line = f"annotator:{hashlib.sha256(tokens[user].encode()).hexdigest()}:{fresh()} name={user}"
            lines.append(f"{line} roles={roles}" if roles else line)
        file = pathlib.Path(folder) / "tokens"
        file.write_text("\n".join(lines) + "\n")
        worker.terminate()
        worker = glyph.start_worker(GLYPH_API_TOKENS_FILE=str(file))
        play_with_tokens(checks, glyph, browser, f"http://127.0.0.1:{worker.port}/annotate", task, tokens)
        browser.close()


def open_page(checks, browser, url):
    context = browser.new_context()
    page = context.new_page()
    page.on("pageerror", lambda error: checks.true(f"no script fails: {error}", False))
    page.on("console", lambda message: checks.true(f"nothing is refused: {message.text}", "Content Security Policy" not in message.text))
    page.goto(url)
    return context, page


def begin(page, heading):
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("heading", level=1, name=heading).wait_for()


def answer(page, topic="bug"):
    page.get_by_role("radio", name=topic).check()
    page.get_by_role("radio", name="high").check()
    page.get_by_role("checkbox", name="app").check()
    page.get_by_label("Minutes").fill("15")
    page.get_by_label("Kind").fill("person")
    # As somebody selects a word of the text with the mouse.
    page.evaluate(
        """() => {
            const node = document.querySelector("fieldset .text").firstChild;
            const at = node.data.indexOf("Anna");
            getSelection().setBaseAndExtent(node, at, node, at + 4);
        }"""
    )
    page.get_by_role("button", name="Mark the selection").click()


def play_unknown(checks, glyph, browser, url, task):
    """Without tokens, by name: what is typed survives a closed tab, a refusal and a lost connection, and counts once."""
    context, page = open_page(checks, browser, f"{url}?workflow=tickets&user=ann")
    begin(page, "Tickets of the support: What is it about?")
    checks.true("the guideline is shown", page.get_by_text("Read the ticket and say what it is about.").is_visible())
    checks.true("the input is shown", page.get_by_text("berta@example.org").is_visible())
    page.keyboard.press(page.get_by_text("bug").locator("xpath=following-sibling::kbd").inner_text())
    checks.true("a number key chooses", page.get_by_role("radio", name="bug").is_checked())
    page.get_by_text("Draft kept").wait_for()
    page.close()

    page = context.new_page()
    page.goto(f"{url}?workflow=tickets&user=ann")
    begin(page, "Tickets of the support: What is it about?")
    checks.true("who comes back is given the task that was begun", page.get_by_text("You had begun this one.").is_visible())
    checks.true("with the draft", page.get_by_role("radio", name="bug").is_checked())
    page.get_by_role("button", name="Submit and next").click()
    alert = page.get_by_role("alert")
    wait_until("a refusal is shown", lambda: "urgency" in alert.inner_text() or "minutes" in alert.inner_text(), 10)
    checks.true("and the answer stays", page.get_by_role("radio", name="bug").is_checked())

    answer(page)
    checks.equal("what is marked is marked", page.locator("fieldset mark").inner_text(), "Anna")
    context.set_offline(True)
    page.get_by_role("button", name="Submit and next").click()
    wait_until("a lost connection is told", lambda: "cannot be reached" in alert.inner_text(), 30)
    context.set_offline(False)
    page.keyboard.press("Control+Enter")
    page.get_by_text("There is nothing to do for you right now.").wait_for()
    context.close()
    submitted = glyph.rows(
        "SELECT event_data->'annotation'->'data' FROM workflow_events WHERE stream_id = %s AND event_type = 'annotation_submitted'", [task]
    )
    checks.equal("the work counts once, as it was entered", submitted, [(ANSWER,)])


def submit_last(context, page):
    page.get_by_role("button", name="Submit and next").click()
    page.get_by_text("There is nothing to do for you right now.").wait_for()
    context.close()


def play_with_tokens(checks, glyph, browser, url, task, tokens):
    """With tokens of their own: a second opinion, an adjudicator for what is disputed, a reviewer."""

    def sign_in(user):
        context, page = open_page(checks, browser, url)
        page.get_by_label("Token").fill(tokens[user])
        return context, page

    context, page = sign_in("ben")
    begin(page, "Tickets of the support: What is it about?")
    answer(page, topic="praise")
    submit_last(context, page)

    context, page = sign_in("lea")
    begin(page, "Tickets of the support: Adjudicate")
    checks.true("an adjudicator sees what is disputed", page.get_by_text("Disputed").is_visible())
    checks.true("and is asked for nothing else", page.get_by_label("Minutes (optional)").is_visible())
    page.get_by_role("radio", name="bug").check()
    submit_last(context, page)

    context, page = sign_in("kim")
    begin(page, "Tickets of the support: Check")
    checks.true("a reviewer sees the value", page.get_by_text("The value").is_visible())
    page.get_by_role("radio", name="approve").check()
    submit_last(context, page)
    status, output = glyph.rows(
        "SELECT status, (SELECT event_data->'output'->'result' FROM workflow_events WHERE stream_id = task_id AND event_type = 'workflow_completed') FROM tasks WHERE task_id = %s",
        [task],
    )[0]
    checks.equal("the result is what they made of it", (status, output), ("completed", ANSWER))

#!/usr/bin/env python3
"""People label in Label Studio, and Glyph decides: how many of them are asked, and what the answer is.

    adapter.py … check          says whether the settings and the labelling interface fit the step
    adapter.py … webhook URL    makes Label Studio call URL, where `serve` is reached
    adapter.py … serve          takes webhooks, and does `sync` and `push` every minute
    adapter.py … push           shows in Label Studio what waits in Glyph, and closes what needs nobody any more
    adapter.py … sync           submits the annotations that no webhook has brought
    adapter.py … refused        lists the work that is not in Glyph, and why

Needs nothing but Python 3.11. Settings: --help, and docs/label-studio.md. Ends with 0; 1 if it failed or `refused` lists anything; 2 if
the settings or the labelling interface do not fit; 4 if a service cannot be reached.
"""

import argparse
import logging
import os
import sqlite3
import sys

import webhooks
from bridge import Bridge
from records import People, Records
from services import Answered, Away, Glyph, LabelStudio, Misfit


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
        bridge = Bridge(glyph, studio, People(options.users), records, options.pixels)
        secret = secret_of("WEBHOOK_SECRET", options.verb in ("serve", "webhook"))
        bridge.check()
        if options.verb == "serve":
            webhooks.serve(bridge, options.listen, secret, options.every)
        elif options.verb == "webhook":
            webhooks.register(studio, options.url, secret)
        elif options.verb == "check":
            print(f"step `{options.step}` of `{options.workflow}` fits project {options.project}")
        else:
            bridge.round((options.verb,))
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

"""Checks the OpenAPI document and page of a running worker with an independent validator, and the worker with its own
document: generated requests, valid and broken ones, never get a server error or a response that is not documented.
"""

import json
import pathlib
import re
import subprocess
import sys

from openapi_spec_validator import OpenAPIV31SpecValidator

from glyph_client import LOGS, REPOSITORY, Deployment, fresh

JUDGED_BY = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"


def main(checks):
    with Deployment("api_document") as glyph:
        worker = glyph.start_worker()
        status, text = worker.get("/openapi.json")
        checks.equal("/openapi.json is served", status, 200)
        document = json.loads(text)
        faults = [f"{'/'.join(map(str, fault.path))}: {fault.message}" for fault in OpenAPIV31SpecValidator(document).iter_errors()]
        checks.all("the document is valid OpenAPI 3.1", faults)

        status, page = worker.get("/docs")
        checks.equal("/docs is served", status, 200)
        missing = [
            f"{method} {path}"
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
            if f'id="{operation["operationId"]}"' not in page
        ]
        checks.equal("the page tells of every operation", missing, [])
        checks.equal("the page fetches nothing", re.findall(r"<script|<link|<img|src=|url\(|@import", page), [])

        # Data for the generated requests to find.
        glyph.create_workflow((REPOSITORY / "examples" / "sentiment-dual.yaml").read_text())
        glyph.glyph("task", "start", fresh(), "--workflow", "sentiment-dual")
        fuzzed = subprocess.run(
            [
                pathlib.Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{worker.port}/openapi.json",
                "--checks", JUDGED_BY, "--phases", "coverage,fuzzing", "--max-examples", "10", "--seed", "2008", "--no-shrink",
                # A request may wait for something new in the log for twenty seconds.
                "--continue-on-failure", "--no-color", "--request-timeout", "30",
            ],
            cwd=LOGS, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
        )
        generated = re.search(r"(\d+) generated", fuzzed.stdout)
        many = generated and int(generated[1]) > 500
        if not checks.true("made requests meet nothing that the document does not tell of", fuzzed.returncode == 0 and many):
            print(fuzzed.stdout[-8000:], fuzzed.stderr[-2000:])

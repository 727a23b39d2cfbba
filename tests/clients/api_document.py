"""The OpenAPI document and its page, as a running worker serves them, judged by a foreign validator."""

import json
import re

from openapi_spec_validator import OpenAPIV31SpecValidator

from glyph_client import Deployment


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

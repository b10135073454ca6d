"""Checks that the OpenAPI document of the server is one: another program's rules, not ours.

Run by run.sh, with E2B_API_URL and E2B_API_KEY.
"""

import json
import os
import urllib.request

from openapi_spec_validator import validate

request = urllib.request.Request(
    os.environ["E2B_API_URL"] + "/openapi.json", headers={"X-API-KEY": os.environ["E2B_API_KEY"]}
)
with urllib.request.urlopen(request, timeout=30) as answer:
    document = json.load(answer)
validate(document)
assert len(document["paths"]) > 10, sorted(document["paths"])
print(f"OK, {len(document['paths'])} paths in /openapi.json")

"""Rules that the configuration of schemathesis cannot express."""

import re

import schemathesis
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import is_unexpected_http_status_case

# Rules that the document does not contain: for each field, the beginnings of their error messages. If
# data that fits the document gets any other 400, the document or the service is wrong. If a rule is
# added to the document, remove it here.
RULES = {
    # Any field: the characters of texts, whole numbers that are written as 1.0, and headers that a
    # signed URL requires.
    "": r"Must not contain control characters|Must not be blank|Invalid type: floating point"
        r"|Must be `[^`]+`: the signed URL requires this header",
    # Values that depend on earlier responses, on the configuration, or on the upload.
    "cursor": r"Must be the next_cursor of a page of the same list",
    "policy": r"There is no policy `",
    "id": r"The upload's strategy is \w+(, not multipart|: only an upload)|A direct upload has no URL",
    "ids": r"[0-9a-f-]+ occurs more than once",
    "part_numbers": r"-?\d+ (is not a part|occurs more than once)|Must contain 1 to \d+ part numbers",
    # A subject of a track is accepted only if the track exists.
    "attach_to": r"`track:` must be followed|Must be track:",
    "subject": r"`track:` must be followed",
    # Rules of the policy and of the store.
    "file": r"File|The form has",
    "size": r"File is (empty|larger)|(A single PUT|A form upload|An object) can have|An upload in parts",
    "filename": r"Must (not be empty|be at most|be a name)|Extension must be",
    "content_type": r"Must be a media type",
    "strategy": r"The store does not accept|Send the file to",
    "write_once": r"A form upload can't be",
    "checksum": r"Value is not base64|A \w+ value must be the base64|The store does not keep",
    "metadata": r"Must be at most \d+ bytes|Names may contain|Values may contain",
    "max_size": r"Must be from 1 to \d+ bytes",
    "cors_origins": r"Must be origins such as",
    "expires_in": r"Must be from 1 to \d+ seconds",
    # The format of headers and ages.
    "Idempotency-Key": r"Must be 1 to 255 printable ASCII",
    "Content-Digest": r"Must look like sha-256=|Not allowed with a multipart/form-data body",
    "Repr-Digest": r"Must look like sha-256=|Not allowed with a multipart/form-data body",
    "Content-MD5": r"Must be the base64 of 16 bytes|Not allowed with a multipart/form-data body",
    # Verdicts of inspectors.
    "inspector": r"There is no inspector `|Must be 1 to \d+ bytes",
    "etag": r"Must be 1 to \d+ bytes",
    "version_id": r"Must be 1 to \d+ bytes",
    "annotations": r"annotations of \d+ bytes",
    # The former locations of a policy depend on the configuration.
    "from": r"`[^`]*` is the store of the current location|The policy `[^`]+` has no former location",
    "older_than": r"Must be an age such as",
}
# Error messages for bodies without a schema: events of any store, and forms.
DETAILS = r"not an event of a bucket|The form cannot be read|A part of the form has no valid header"


def is_named(field, sentence):
    own = RULES.get(re.sub(r"\[\d+\]$", "", field), "(?!)")
    return re.match(own, sentence) or re.match(RULES[""], sentence)


@schemathesis.check
def invalid_items_of_a_batch_have_a_problem(ctx, response, case):
    """A batch returns 200 even if an item is invalid. In that case an item must have a problem."""
    meta = case.meta
    if not case.path.startswith("/api/uploads/batch") or response.status_code != 200:
        return
    body = meta and meta.components.get(ParameterLocation.BODY)
    if body is None or not body.mode.is_negative:
        return
    if all(result["status"] < 400 for result in response.json()["results"]):
        raise AssertionError(f"{case.method} {case.path}: invalid data is accepted: {response.text}")


@schemathesis.check
def valid_data_is_refused_only_by_a_known_rule(ctx, response, case):
    """Data that fits the document returns 400 only because of a rule that is not in the document."""
    meta = case.meta
    if response.status_code != 400 or meta is None or not meta.generation.mode.is_positive:
        return
    if is_unexpected_http_status_case(case):
        return
    problem = response.json()
    errors = problem.get("errors") or {}
    named = all(is_named(field, sentence) for field in errors for sentence in errors[field])
    if not (errors and named) and not re.match(DETAILS, problem.get("detail") or ""):
        raise AssertionError(f"{case.operation.label}: valid data is refused: {response.text}")

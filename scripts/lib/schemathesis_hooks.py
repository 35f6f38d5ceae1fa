"""What schemathesis's own checks can't be told in its configuration."""

import schemathesis
from schemathesis.specs.openapi.checks import is_unexpected_http_status_case

# Rules that stand in no schema, by the field that is blamed: a cursor is one that was given
# out, a policy is one that is configured.
EXCUSED = {"cursor", "policy"}


@schemathesis.check
def sound_data_is_refused_for_named_reasons_alone(ctx, response, case):
    """Data that fits the document is 400 only where the document can't say why."""
    meta = case.meta
    if response.status_code != 400 or meta is None or not meta.generation.mode.is_positive:
        return
    if is_unexpected_http_status_case(case):
        return
    blamed = set(response.json().get("errors") or {})
    if not blamed or blamed - EXCUSED:
        raise AssertionError(f"{case.operation.label}: sound data is refused: {response.text}")

"""The generated parts of docs/: tables from the code.

A page contains `<!-- generated: NAME -->` and `<!-- end -->`; `scripts/check-docs --write` writes the text
between them. To add a table: a function here that returns Markdown, and a line in `TABLES`.
"""

import json
import re
import subprocess

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(text):
    """A text as a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(cell, row)) + " |" for row in rows]) + "\n"


def escaped(text):
    """A plain text as Markdown. Text in `code` does not change."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"[<*]", r"\\\g<0>", piece) for piece in pieces)


def configuration(root):
    """One table for each section of config/default.toml: keys with their defaults, and the comment above them."""
    out, rows, comment, keys, section_comment = [], [], [], [], []

    def flush_group():
        nonlocal keys
        if keys:
            names = "<br>".join(f"`{name}`" for name, _ in keys)
            values = "<br>".join(f"`{value}`" for _, value in keys)
            rows.append((names, values, escaped(" ".join(comment))))
            comment.clear()
            keys = []

    def flush_section():
        flush_group()
        if rows:
            out.append("\n" + table(("key", "default", "meaning"), rows))
            rows.clear()

    for line in (root / "config/default.toml").read_text().splitlines():
        if match := re.fullmatch(r"\[(.+)\]", line):
            flush_section()
            out.append(f"\n### {match[1]}\n")
            if comment:
                out.append("\n" + escaped(" ".join(comment)) + "\n")
            comment.clear()
        elif line.startswith("#"):
            flush_group()
            comment.append(line.lstrip("# "))
        elif match := re.fullmatch(r"(\w+) = (.+)", line):
            keys.append((match[1], match[2]))
        elif not line:
            flush_section()
            if not out:
                comment.clear()  # the introduction of the file
    flush_section()
    return "".join(out).lstrip("\n")


def problems(root):
    """The rows of src/http/problem/code.rs."""
    code = (root / "src/http/problem/code.rs").read_text()
    count = int(re.search(r"ALL: \[Self; (\d+)\]", code)[1])
    row = re.compile(
        r'=> row\(\s*"([\w-]+)",\s*S::(\w+),\s*"((?:[^"\\]|\\.)*)",\s*(None|Some\((\d+)\)),\s*"((?:[^"\\]|\\.)*)",?\s*\)'
    )
    found = row.findall(code)
    if len(found) != count:
        raise ValueError(f"src/http/problem/code.rs: {count} rows expected, {len(found)} can be parsed")
    rows = []
    for name, status, title, _, _, meaning in found:
        rows.append((f"`{name}`", str(STATUS[status]), escaped(f"{title}. {meaning}").replace('\\"', '"')))
    return table(("problem", "status", "meaning and fix"), rows)


STATUS = {
    "BAD_REQUEST": 400, "UNAUTHORIZED": 401, "FORBIDDEN": 403, "NOT_FOUND": 404, "METHOD_NOT_ALLOWED": 405,
    "NOT_ACCEPTABLE": 406, "REQUEST_TIMEOUT": 408, "CONFLICT": 409, "GONE": 410, "PAYLOAD_TOO_LARGE": 413,
    "UNSUPPORTED_MEDIA_TYPE": 415, "UNPROCESSABLE_ENTITY": 422, "TOO_MANY_REQUESTS": 429,
    "PRECONDITION_FAILED": 412, "INTERNAL_SERVER_ERROR": 500, "NOT_IMPLEMENTED": 501, "BAD_GATEWAY": 502,
    "SERVICE_UNAVAILABLE": 503, "GATEWAY_TIMEOUT": 504,
}


def metrics(root):
    """The metrics in src/telemetry/metrics.rs."""
    code = (root / "src/telemetry/metrics.rs").read_text()
    code = code.split("\nmetrics! {\n")[1].split("\n}\n")[0]
    row = re.compile(r'(\w+) = (\w+)\s+"(\w+)"\s*\[([^\]]*)\]\s*"((?:[^"\\]|\\.)*)";')
    found = row.findall(code)
    if len(found) != len(re.findall(r"^\s*\w+ = ", code, re.MULTILINE)):
        raise ValueError("src/telemetry/metrics.rs: a metric cannot be parsed")
    rows = [
        (f"`{name}`", kind.lower(), ", ".join(f"`{label}`" for label in re.findall(r"\w+", labels)), help)
        for _, kind, name, labels, help in found
    ]
    return table(("metric", "kind", "labels", "meaning"), rows)


def store_errors(root):
    """The sentences of src/storage/cause.rs."""
    code = (root / "src/storage/cause.rs").read_text()
    count = int(re.search(r"ALL: \[Self; (\d+)\]", code)[1])
    body = code.split("const fn sentence")[1].split("    /// ")[0]
    found = re.findall(r'Self::\w+ =>\s*\{?\s*"((?:[^"\\]|\\.)*)"', body, re.DOTALL)
    if len(found) != count:
        raise ValueError(f"src/storage/cause.rs: {count} sentences expected, {len(found)} can be parsed")
    rows = [re.sub(r"\\\n\s*", "", text).split(": ", 1) for text in found]
    return table(("what is wrong", "what to do"), [(escaped(saw), escaped(mend)) for saw, mend in rows])


# Credentials without scopes, by the name of their security scheme.
TOKENS = {"events": "the events token", "upload_token": "an upload token"}


def routes(root):
    """The operations of src/http/openapi.json by tag."""
    document = json.loads((root / "src/http/openapi.json").read_text())
    out = []
    for tag in document["tags"]:
        rows = []
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if not isinstance(operation, dict) or tag["name"] not in operation.get("tags", []):
                    continue
                scopes = [
                    " ".join(f"`{scope}`" for scope in names) or TOKENS[scheme]
                    for entry in operation.get("security", [])
                    for scheme, names in entry.items()
                ]
                rows.append((f"`{method.upper()} {path}`", " or ".join(scopes) or "none", operation["summary"]))
        if rows:
            out.append(f"### {tag['name'].capitalize()}\n\n{tag['description']}.\n\n")
            out.append(table(("route", "scope", "does"), rows) + "\n")
    return "".join(out).rstrip("\n") + "\n"


def idempotent(root):
    """The routes of src/http/openapi.json that take an `Idempotency-Key`."""
    document = json.loads((root / "src/http/openapi.json").read_text())
    return "".join(
        f"- `{method.upper()} {path}`\n"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if isinstance(operation, dict) and "idempotency-key" in json.dumps(operation.get("parameters", [])).lower()
    )


def commands(binary):
    """`--help` of each command of the binary."""
    out = []

    def visit(words):
        help_text = subprocess.run(
            [binary, *words, "--help"], capture_output=True, text=True, check=True, timeout=60
        ).stdout.rstrip()
        lines = [line.rstrip() for line in help_text.splitlines()]
        out.append(f"## {' '.join(words) or 'upload-coordinator'}\n\n```text\n" + "\n".join(lines) + "\n```\n\n")
        in_commands = False
        for line in lines:
            if re.match(r"\w", line):
                in_commands = line == "Commands:"
            elif in_commands and (match := re.match(r"  (\w[\w-]*) ", line)) and match[1] != "help":
                visit([*words, match[1]])

    visit([])
    return "".join(out).rstrip("\n") + "\n"


# The NAME of a block: its page, and the function that returns its content from the repository's root.
TABLES = {
    "configuration": ("docs/reference/configuration.md", configuration),
    "problems": ("docs/reference/problems.md", problems),
    "metrics": ("docs/reference/metrics.md", metrics),
    "routes": ("docs/reference/api.md", routes),
    "idempotent": ("docs/topics/limits.md", idempotent),
    "store_errors": ("docs/operations/troubleshooting.md", store_errors),
}
COMMANDS_PAGE = "docs/reference/cli.md"


def replaced(page, name, content):
    """The text of a page with the content of one block replaced."""
    text = page.read_text()
    found = [match for match in BLOCK.finditer(text) if match[2] == name]
    if len(found) != 1:
        raise ValueError(f"{page}: needs exactly one block `<!-- generated: {name} -->` ... `<!-- end -->`")
    return BLOCK.sub(lambda match: match[1] + content + match[3] if match[2] == name else match[0], text)


def alerts_without_a_section(root):
    """A sentence for each alert without a section in the runbook, and for each section without an alert."""
    page = root / "docs/operations/runbook.md"
    alerts = set(re.findall(r"alert: (\w+)", (root / "config/alerts.yml").read_text()))
    sections = set(re.findall(r"^## (\w+)$", page.read_text(), re.MULTILINE)) if page.exists() else set()
    page_start = "docs/operations/runbook.md:1"
    found = [f"{page_start}: the alert {name} of config/alerts.yml has no section" for name in sorted(alerts - sections)]
    return found + [f"{page_start}: the section {name} has no alert in config/alerts.yml" for name in sorted(sections - alerts)]


def stale(root, write, binary=None):
    """A sentence for each block that differs from the code. If `write` is set, writes the block instead.

    With a binary, only the commands are compared; without a binary, all other blocks.
    """
    pages = [(name, page, lambda make=make: make(root)) for name, (page, make) in TABLES.items()]
    found = []
    if binary:
        pages = [("commands", COMMANDS_PAGE, lambda: commands(binary))]
    else:
        found += alerts_without_a_section(root)
    for name, path, make in pages:
        page = root / path
        if not page.exists():
            found.append(f"{path}:1: no such page")
            continue
        try:
            text = replaced(page, name, make())
        except ValueError as error:
            found.append(f"{path}:1: {error}")
            continue
        if text != page.read_text():
            if write:
                page.write_text(text)
            else:
                flag = " --run" if binary else ""
                found.append(f"{path}:1: the block '{name}' differs from the code; run `scripts/check-docs{flag} --write`")
    return found

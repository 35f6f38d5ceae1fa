"""Checks that names in `code` of the documents exist: configuration keys, routes, metrics and problems."""

import json
import re
import tomllib

KEY = re.compile(r"(\w+)(?:\.(?:\w+|<\w+>))+")
VARIABLE = re.compile(r"UPLOAD_COORDINATOR__\w+")
ROUTE = re.compile(r"(GET|PUT|POST|PATCH|DELETE|HEAD) (/[^\s`]*)")
METRIC = re.compile(r"upload_coordinator_\w+")
PROBLEM = re.compile(r"/problems/([a-z-]+)")
# Routes that are not in the OpenAPI document.
OTHER_ROUTES = {"/demo"}


def leads_somewhere(table, path):
    for name in path:
        if not isinstance(table, dict) or name not in table:
            return False
        table = table[name]
    return True


class Names:
    """The names that exist in the code."""

    def __init__(self, root):
        self.configuration = tomllib.loads((root / "config/default.toml").read_text())
        document = json.loads((root / "src/http/openapi.json").read_text())
        self.routes = {
            (method.upper(), re.sub(r"\{\w+\}", "{}", path))
            for path, operations in document["paths"].items()
            for method in operations
        }
        self.metrics = set(re.findall(r'"(upload_coordinator_\w+)"', (root / "src/telemetry/metrics.rs").read_text()))
        code = (root / "src/http/problem/code.rs").read_text()
        self.problems = set(re.findall(r'=> row\(\s*"([\w-]+)"', code))

    def has_key(self, key):
        """`storage.<name>.bucket` and `storage.photos.bucket` are keys, because `storage.default.bucket` is one."""
        section, *path = key.split(".")
        table = self.configuration[section]
        if section == "webhooks" and len(path) == 2:  # endpoints have no defaults
            return path[1] in ("url", "secret", "events")
        named = [inner for inner in table.values() if isinstance(inner, dict)]
        return leads_somewhere(table, path) or any(leads_somewhere(inner, path[1:]) for inner in named)

    def has_route(self, method, path):
        path = re.sub(r"\{\w+\}", "{}", path.split("?")[0])
        if path in OTHER_ROUTES or "..." in path or path == "/":
            return True
        return ("GET" if method == "HEAD" else method, path) in self.routes

    def wrong(self, code):
        """A sentence for each unknown name in a piece of code."""
        if (match := KEY.fullmatch(code)) and match[1] in self.configuration and not self.has_key(code):
            yield f"no such configuration key: {code}"
        for variable in VARIABLE.findall(code):
            key = variable.removeprefix("UPLOAD_COORDINATOR__").lower().replace("__", ".")
            if key == "section.key":
                continue
            if key.split(".")[0] not in self.configuration or not self.has_key(key):
                yield f"no such configuration key: {variable}"
        for method, path in ROUTE.findall(code):
            if not self.has_route(method, path):
                yield f"no such route: {method} {path}"
        for metric in METRIC.findall(code):
            if metric not in self.metrics and re.sub(r"_(bucket|sum|count)$", "", metric) not in self.metrics:
                yield f"no such metric: {metric}"
        for problem in PROBLEM.findall(code):
            if problem not in self.problems:
                yield f"no such problem: {problem}"

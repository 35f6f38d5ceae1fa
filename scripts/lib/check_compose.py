"""Checks that everything exists that compose.yml refers to. Usage: check_compose.py COMPOSE DEFAULT_TOML"""

import pathlib
import re
import sys

import yaml

PREFIX = "UPLOAD_COORDINATOR__"
# Sections whose second level is a name that the user chooses.
NAMED = {"storage", "policies"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def known_keys(text):
    """Every key that a TOML file sets, or shows commented out (`# token = ""`)."""
    keys, section = set(), ""
    for line in text.splitlines():
        if match := re.match(r"^#?\s*\[([A-Za-z0-9_.-]+)\]\s*(#.*)?$", line):
            section = match[1]
        elif match := re.match(r"^#?\s*([a-z0-9_.]+)\s*=", line):
            keys.add(wildcard(f"{section}.{match[1]}".lstrip(".").split(".")))
    return keys


def wildcard(path):
    path = list(path)
    if path[0] in NAMED and len(path) > 2:
        path[1] = "*"
    return ".".join(path)


def pairs(environment):
    if isinstance(environment, list):
        return [tuple((entry.split("=", 1) + [None])[:2]) for entry in environment]
    return list((environment or {}).items())


def problems(compose, keys, root):
    services = compose.get("services") or {}
    volumes = compose.get("volumes") or {}
    used = set()
    for name, service in services.items():
        if not service.get("image") and not service.get("build"):
            yield f"{name}: neither image nor build"
        image = service.get("image") or ""
        if image and not service.get("build") and not re.search(r":[^/:]*\d|@sha256:", image):
            yield f"{name}: image {image} is not pinned to a version"
        if build := service.get("build"):
            context = build if isinstance(build, str) else build.get("context", ".")
            file = "Dockerfile" if isinstance(build, str) else build.get("dockerfile", "Dockerfile")
            if not (root / context / file).is_file():
                yield f"{name}: there is no {context}/{file}"
        depends = service.get("depends_on") or {}
        for other in depends:
            if other not in services:
                yield f"{name}: depends_on {other}, which is not a service"
                continue
            condition = depends[other].get("condition") if isinstance(depends, dict) else "service_started"
            if condition not in CONDITIONS:
                yield f"{name}: depends_on {other} has the condition {condition}"
            if condition == "service_healthy" and not services[other].get("healthcheck"):
                yield f"{name}: waits until {other} is healthy, but {other} has no healthcheck"
        for volume in service.get("volumes") or []:
            source = volume.get("source", "") if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith((".", "/", "~")):
                if source.startswith(".") and not (root / source).exists():
                    yield f"{name}: mounts {source}, which does not exist"
            elif source:
                used.add(source)
                if source not in volumes:
                    yield f"{name}: volume {source} is not declared"
        for variable, value in pairs(service.get("environment")):
            if isinstance(value, (bool, float)):
                yield f"{name}: {variable} needs quotes: YAML reads {value!r}"
            if variable.startswith("UPLOAD_COORDINATOR"):
                if not re.fullmatch(PREFIX + r"[A-Z0-9]+(_[A-Z0-9]+)*(__[A-Z0-9]+(_[A-Z0-9]+)*)+", variable):
                    yield f"{name}: {variable} is not {PREFIX}SECTION__KEY"
                elif keys is not None:
                    key = wildcard(variable[len(PREFIX) :].lower().split("__"))
                    if key not in keys:
                        yield f"{name}: {variable}: config/default.toml does not contain {key}"
        for reference in re.findall(r"https?://([a-z][a-z0-9-]*):\d+", str(service)):
            if reference not in services and reference != "localhost":
                yield f"{name}: names the host {reference}, which is not a service"
    for volume in set(volumes) - used:
        yield f"volume {volume} is declared and not used"


def main():
    compose_path, default_path = map(pathlib.Path, sys.argv[1:])
    compose = yaml.safe_load(compose_path.read_text())
    keys = known_keys(default_path.read_text()) if default_path.is_file() else None
    found = list(problems(compose, keys, compose_path.resolve().parent))
    for problem in found:
        print(f"{compose_path}: {problem}")
    if found:
        sys.exit(1)
    checked = "" if keys is not None else f" ({default_path} does not exist: keys not checked)"
    print(f"{compose_path}: {len(compose['services'])} services, references ok{checked}")


main()

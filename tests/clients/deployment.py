"""What is deployed, as its own tools read it: compose files, images, units, manifests, rules, dashboard, scripts.

Then what no such tool knows: settings and flags exist, pages and files name the same queues and metrics, and the two
kinds of worker of the compose file run under the secrets that its first step makes.
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import yaml

from glyph_client import REPOSITORY, Deployment, binary, free_port, wait_until

KUBERNETES = REPOSITORY / "deploy" / "kubernetes"
SYSTEMD = REPOSITORY / "deploy" / "systemd"
COMPOSE = REPOSITORY / "docker-compose.yml"
ANTITHESIS = REPOSITORY / "deploy" / "antithesis"
COMPOSE_FILES = (COMPOSE, ANTITHESIS / "config" / "docker-compose.yaml")
# systemd's measure of what a unit could still do: 0 is least, 100 most.
EXPOSURE_MAX = 20
# Read by the programs beside a worker, not by it.
FOREIGN_SETTINGS = ("POSTGRES_", "GF_", "RABBITMQ_", "PG")
SETTING = re.compile(r"\b(?:GLYPH|DATABASE|AMQP)_[A-Z_]+\b")


def main(checks):
    compose(checks)
    kubernetes(checks)
    autoscaler(checks)
    systemd(checks)
    image_and_scripts(checks)
    dashboard(checks)
    versions(checks)
    settings_and_flags(checks)
    two_kinds_of_worker(checks)


def run(*arguments, **options):
    """Exit code and everything that a program says; None where it is not there."""
    program = shutil.which(arguments[0]) or shutil.which(arguments[0], path=pathlib.Path(sys.executable).parent)
    if program is None:
        return None
    done = subprocess.run(
        [program, *map(str, arguments[1:])], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def accepts(checks, what, answer, silently=False):
    """Passes if a tool ended well; `silently`: and has nothing to say. Without the tool the check is left out, and says so."""
    if answer is None:
        print(f"  left out: {what}: the tool is not there")
        return
    code, said = answer
    checks.true(what, code == 0 and not (silently and said), said)


def documents(path):
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def manifests():
    return [document for path in sorted(KUBERNETES.glob("*.yaml")) for document in documents(path)]


# --- docker compose ---


def compose(checks):
    arguments = ("check-jsonschema", "--builtin-schema", "vendor.compose-spec")
    accepts(checks, "compose files are ones by their specification", run(*arguments, *COMPOSE_FILES))
    if (plugin := run("docker", "compose", "version")) and plugin[0] == 0:
        for file in COMPOSE_FILES:
            accepts(checks, "docker compose config", run("docker", "compose", "--file", file, "config", "--quiet"), silently=True)
    else:
        print("  left out: docker compose config: the plugin is not there")

    file = documents(COMPOSE)[0]
    services, volumes = file["services"], file["volumes"]
    faults = []
    mounted = collections.defaultdict(list)
    for name, service in services.items():
        if not re.search(r":v?\d+\.\d+", service["image"]):
            faults.append(f"{name}: {service['image']} names no exact version")
        faults += [f"{name}: no {key}" for key in ("mem_limit", "pids_limit", "logging", "security_opt") if key not in service]
        is_step = service.get("restart") is None
        if not is_step and name not in ("worker", "api") and "healthcheck" not in service:
            faults.append(f"{name}: no healthcheck")
        faults += [f"{name}: {port} is published beyond loopback" for port in service.get("ports", ()) if not port.startswith("127.0.0.1:")]
        faults += [f"{name}: waits for {other}, which is not there" for other in service.get("depends_on", ()) if other not in services]
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                if not (REPOSITORY / source).exists():
                    faults.append(f"{name}: {source} is not there")
            elif source not in volumes:
                faults.append(f"{name}: the volume {source} is not declared")
            else:
                mounted[source].append(name)
    faults += [f"nobody mounts {volume}" for volume in volumes if volume not in mounted]
    checks.all("images are pinned, services limited, ports on loopback, volumes and steps there", faults)

    # The step that makes the secrets sees all of them, those that set up accounts two.
    steps = {"secrets", "postgres-accounts", "rabbitmq-accounts"}
    owners = {volume: set(names) - steps for volume, names in mounted.items() if volume.endswith("-secrets")}
    expected = {f"{name}-secrets": {name} for name in ("postgres", "rabbitmq", "api", "grafana")}
    expected |= {"owner-secrets": {"migrate"}, "worker-secrets": {"worker", "api"}}
    checks.equal("each service mounts its own secrets", owners, expected)


# --- Kubernetes ---


def kubernetes(checks):
    # The kinds of KEDA are no part of Kubernetes.
    paths = [path for path in sorted(KUBERNETES.glob("*.yaml")) if path.name != "autoscale.yaml"]
    accepts(checks, "kubernetes-validate", run("kubernetes-validate", "--strict", "--quiet", *paths), silently=True)

    faults = []
    everything = manifests()
    pods = {document["metadata"]["name"]: document["spec"]["template"] for document in everything if "template" in document["spec"]}
    for name, pod in pods.items():
        spec = pod["spec"]
        containers = spec["containers"] + spec.get("initContainers", [])
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        if not spec["securityContext"]["runAsNonRoot"] or spec["automountServiceAccountToken"]:
            faults.append(f"{name}: may be root, or talk to the cluster")
        for container in containers:
            if not re.search(r":\d", container["image"]):
                faults.append(f"{name}: {container['image']} names no version")
            if "memory" not in container["resources"]["limits"]:
                faults.append(f"{name}: {container['name']} has no limit of memory")
            faults += [f"{name}: no volume {mount['name']}" for mount in container["volumeMounts"] if mount["name"] not in volumes]
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            files = [entry["value"] for entry in container.get("env", ()) if entry["name"].endswith("_FILE")]
            faults += [f"{name}: nothing is mounted where {file} is" for file in files if os.path.dirname(file) not in mounts]
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("livenessProbe", "readinessProbe"):
                if ports and container[probe]["httpGet"]["port"] not in ports:
                    faults.append(f"{name}: {probe} asks a port that is not there")
    for document in everything:
        name, spec = document["metadata"]["name"], document["spec"]
        selector = spec.get("selector", {})
        labels = selector.get("matchLabels", selector)
        if labels and not any(labels.items() <= pod["metadata"]["labels"].items() for pod in pods.values()):
            faults.append(f"{document['kind']} {name} selects nothing")
        if document["kind"] == "Deployment":
            budgets = [d for d in everything if d["kind"] == "PodDisruptionBudget" and d["spec"]["selector"] == selector]
            if len(budgets) != 1:
                faults.append(f"{name}: {len(budgets)} disruption budgets")
    checks.all("pods have few rights, limits, probes and what they mount; selectors select", faults)


def closed(schema):
    """The same schema, with no other fields than those that it names."""
    if isinstance(schema, dict):
        schema = {key: closed(value) for key, value in schema.items()}
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
    elif isinstance(schema, list):
        schema = [closed(value) for value in schema]
    return schema


def autoscaler(checks):
    import jsonschema
    from cloudcoil.models.keda import v1alpha1

    faults = []
    objects = documents(KUBERNETES / "autoscale.yaml")
    for document in objects:
        schema = closed(getattr(v1alpha1, document["kind"]).model_json_schema())
        faults += [f"{document['kind']}: {fault.json_path}: {fault.message}" for fault in jsonschema.Draft202012Validator(schema).iter_errors(document)]
    checks.all("the autoscaler's objects are KEDA's", faults)

    scaled = next(document["spec"] for document in objects if document["kind"] == "ScaledObject")
    access = {document["metadata"]["name"] for document in objects if document["kind"] == "TriggerAuthentication"}
    deployments = {document["metadata"]["name"] for document in manifests() if document["kind"] == "Deployment"}
    declared = (REPOSITORY / "schemas" / "asyncapi.yaml").read_text()
    faults = [] if scaled["scaleTargetRef"]["name"] in deployments else ["it scales nothing"]
    faults += [] if scaled["minReplicaCount"] >= 1 else ["timers need a worker"]
    watched = set()
    for trigger in scaled["triggers"]:
        queue = trigger["metadata"]["queueName"]
        watched.add(queue)
        if trigger["authenticationRef"]["name"] not in access:
            faults.append(f"{queue}: no such access")
        if f"name: {queue}\n" not in declared:
            faults.append(f"{queue} is no queue of a worker")
    checks.all("it scales a deployment that is there, by queues that are declared", faults)
    checks.equal("by all queues of commands", watched, {"glyph.submission", "glyph.advance", "glyph.control"})


# --- systemd ---


def systemd(checks):
    """The units, with the binary under test in place of the installed one: systemd looks whether it can be started."""
    with tempfile.TemporaryDirectory() as folder:
        units = []
        for unit in sorted(SYSTEMD.glob("*.service")):
            units.append(pathlib.Path(folder, unit.name))
            units[-1].write_text(unit.read_text().replace("/usr/local/bin/glyph", binary()))
        # An unknown key is a warning to it, and no failure.
        accepts(checks, "systemd-analyze verify", run("systemd-analyze", "verify", *units), silently=True)
        version = run("systemd-analyze", "--version")
        # It reads units that are not installed from version 250 on.
        if version is None or int(re.search(r"\d+", version[1]).group()) < 250:
            print("  left out: systemd-analyze security: the tool is not there, or too old")
            return
        arguments = ("--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager")
        accepts(checks, "systemd-analyze security: units may do little", run("systemd-analyze", "security", *arguments, *units))


# --- the image, scripts, workflows of CI ---


def image_and_scripts(checks):
    accepts(checks, "hadolint", run("hadolint", REPOSITORY / "docker" / "Dockerfile", *sorted(ANTITHESIS.glob("*/Dockerfile"))), silently=True)
    scripts = [path for path in (REPOSITORY / "docker").iterdir() if path.is_file() and path.read_bytes().startswith(b"#!")]
    scripts += [REPOSITORY / name for name in ("test", ".ci/run", "scripts/services", "scripts/release-notes")]
    accepts(checks, "shellcheck", run("shellcheck", *scripts), silently=True)
    workflows = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
    accepts(checks, "the workflows of CI are ones by their schema", run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows))


def dashboard(checks):
    accepts(checks, "promtool test rules", run("promtool", "test", "rules", REPOSITORY / "docker" / "alerts.test.yml"))
    rules = documents(REPOSITORY / "docker" / "alerts.yml")[0]["groups"][0]["rules"]
    played = documents(REPOSITORY / "docker" / "alerts.test.yml")[0]["tests"]
    cases = [(case["alertname"], bool(case.get("exp_alerts"))) for test in played for case in test["alert_rule_test"]]
    names = [rule["alert"] for rule in rules]
    checks.equal("each alert is played on series where it fires and where it does not", set(cases), {(n, f) for n in names for f in (True, False)})
    checks.all("each alert says how urgent it is", [r["alert"] for r in rules if r["labels"].get("severity") not in ("critical", "warning")])

    declared = (REPOSITORY / "worker" / "src" / "metrics.rs").read_text()
    beside = ("process_", "rabbitmq_detailed_queue_")
    jobs = {job["job_name"] for job in documents(REPOSITORY / "docker" / "prometheus.yml")[0]["scrape_configs"]}
    faults = []
    for path in sorted((REPOSITORY / "docker" / "grafana" / "dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                expression = target["expr"]
                for metric in re.findall(r"\b(?:glyph|process|rabbitmq)_[a-z_]+", re.sub(r'"[^"]*"', '""', expression)):
                    name = metric.removeprefix("glyph_").removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
                    if not metric.startswith(beside) and f'"{name}"' not in declared:
                        faults.append(f"{panel['title']}: no metric {metric}")
                for job in [name for found in re.findall(r'job=~?"([^"]*)"', expression) for name in found.split("|")]:
                    if job not in jobs:
                        faults.append(f"{panel['title']}: no job {job}")
    checks.all("the dashboard shows metrics that exist, of jobs that are scraped", faults)


# --- what only we know ---


def versions(checks):
    version = re.search(r'^version = "(.*)"', (REPOSITORY / "Cargo.toml").read_text(), re.MULTILINE).group(1)
    files = [*COMPOSE_FILES, *sorted(KUBERNETES.glob("*.yaml")), ANTITHESIS / "workload" / "Dockerfile"]
    own = r"(?:image: |FROM )glyph-(?:worker|antithesis-\w+):?(\S*)"
    images = {(file.name, tag) for file in files for tag in re.findall(own, file.read_text())}
    checks.all("our own image has the version of the crates", [image for image in images if image[1] != version])
    postgres = {tag for file in files for tag in re.findall(r"image: postgres:(\S+)", file.read_text())}
    checks.equal("one version of PostgreSQL everywhere", len(postgres), 1)


def settings_and_flags(checks):
    """Environment variables and flags in files and their comments."""
    known = set(SETTING.findall(subprocess.run([binary(), "settings"], capture_output=True, text=True, check=True).stdout))
    files = [*COMPOSE_FILES, REPOSITORY / "docker" / "Dockerfile", *SYSTEMD.iterdir(), *KUBERNETES.iterdir(), *(REPOSITORY / "docker").glob("*")]
    faults = []
    for path in {path for path in files if path.is_file()}:
        # The name of a variable of Kubernetes' own is an example in a comment.
        named = set(SETTING.findall(path.read_text())) - {"GLYPH_PORT"}
        faults += [f"{path.name}: no setting {name}" for name in sorted(named - known)]

    def variables(environment):
        return environment if isinstance(environment, dict) else {entry["name"]: entry["value"] for entry in environment}

    services = documents(COMPOSE)[0]["services"]
    commands = {name: service["command"] for name, service in services.items() if service["image"].startswith("glyph-worker")}
    for document in manifests():
        spec = document["spec"].get("template", {}).get("spec", {})
        for container in spec.get("containers", []) + spec.get("initContainers", []):
            if container["image"].startswith("glyph-worker"):
                commands[f"{document['kind']} {document['metadata']['name']}"] = container["args"]
                faults += [f"{document['metadata']['name']}: no setting {name}" for name in variables(container["env"]).keys() - known]
    for unit in SYSTEMD.glob("*.service"):
        commands[unit.name] = re.search(r"^ExecStart=/usr/local/bin/glyph (.*)$", unit.read_text(), re.MULTILINE).group(1).split()
    for name, service in services.items():
        of_others = [v for v in service.get("environment", ()) if v not in known and not v.startswith(FOREIGN_SETTINGS)]
        faults += [f"{name}: no setting {variable}" for variable in of_others]
    checks.all("every variable is a setting", faults)

    # Help at the end of a command line is shown only after everything before it has been read.
    faults = []
    for name, command in commands.items():
        code, said = run(binary(), *command, "--help")
        if code != 0:
            faults.append((name, said))
    checks.all("every command line is one that the binary takes", faults)
    checks.true("there are eight of them", len(commands) == 8, sorted(commands))


def two_kinds_of_worker(checks):
    """The services `worker` and `api`, with the token that the step `secrets` makes."""
    services = documents(COMPOSE)[0]["services"]
    with tempfile.TemporaryDirectory() as folder, Deployment("deployment") as glyph:
        folder = pathlib.Path(folder)
        names = [volume.split(":")[1].removeprefix("/secrets/") for volume in services["secrets"]["volumes"] if ":/secrets/" in volume]
        for name in names:
            (folder / name).mkdir()

        def make():
            subprocess.run([REPOSITORY / "docker" / "make-secrets", folder], check=True, stdin=subprocess.DEVNULL)
            return {str(path.relative_to(folder)): path.read_text() for path in folder.glob("*/*")}

        made = make()
        checks.equal("secrets are made once", make(), made)
        token = made["api/operator_token"]

        ports = {name: free_port() for name in ("worker", "api")}
        worker = glyph.start_worker(*services["worker"]["command"][1:], health_port=ports["worker"], GLYPH_METRICS_ADDR=f"127.0.0.1:{ports['worker']}")
        api = glyph.start_worker(
            *services["api"]["command"][1:], GLYPH_METRICS_ADDR=f"127.0.0.1:{ports['api']}", GLYPH_API_TOKENS_FILE=str(folder / "api" / "tokens")
        )
        checks.equal("a worker serves health and metrics alone", [worker.get("/livez")[0], worker.get("/livez", ports["worker"])[0]], [0, 200])
        answers = [api.get("/api/v1/tasks", headers=headers)[0] for headers in ({}, {"authorization": f"Bearer {token}"})]
        checks.equal("the API asks for the token that was made", answers, [401, 200])

        def connected(port):
            lines = worker.get("/metrics", port)[1].splitlines()
            return next((line.split()[1] for line in lines if line.startswith("glyph_consumer_connected ")), None)

        wait_until("the worker consumes", lambda: connected(ports["worker"]) == "1", 30)
        checks.equal("one consumes, the other one says nothing of it", [connected(ports[name]) for name in ("worker", "api")], ["1", None])
        checks.equal("both drain and end", [worker.terminate(), api.terminate()], [0, 0])

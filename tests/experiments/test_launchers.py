"""What the launchers of experiments/ call, with stand-ins for gcloud, xpk, kubectl, srun and scontrol on the PATH.

A stand-in writes its arguments and its input down, and does what a function in the variable ACT says. The commands that
launchers send to hosts are run by a shell here, with a stand-in for Python.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TRICKY = ["--config.data.task=a b", '--query=it\'s "so" $HOME `id` \\ *', "--empty=", "two\nlines"]
STAND_IN = """#!{python}
import json, os, sys
name = os.path.basename(sys.argv[0])
text = sys.stdin.read() if "--filename=-" in sys.argv else ""
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([name, sys.argv[1:], text]) + "\\n")
state = os.environ["CALLS"] + ".state"
words = [name, *sys.argv[1:]]
exec(os.environ.get("ACT", ""))
"""


class Stage:
    """Stand-ins in a folder of their own; `start` runs a launcher, `calls` are those that it made."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.log = folder, folder / "calls"
        (folder / "bin").mkdir()
        for name in ("gcloud", "xpk", "kubectl", "srun", "scontrol"):
            program = folder / "bin" / name
            program.write_text(STAND_IN.format(python=sys.executable))
            program.chmod(0o755)

    def environment(self, act: str, more: dict[str, str]) -> dict[str, str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        usual = {
            "RUN": "seg-7b",
            "BUCKET": "gs://bucket/runs",
            "ZONE": "z",
            "REPOSITORY": "https://host/x y",
            "POLL": "0",
        }
        usual |= {"CLUSTER": "c", "IMAGE": "registry/image:1"}
        return os.environ | usual | {"PATH": path, "CALLS": str(self.log), "ACT": act} | more

    def start(self, script: str, *arguments: str, act: str = "", **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", str(ROOT / "experiments" / script), *arguments], env=self.environment(act, more),
            capture_output=True, text=True, timeout=60, cwd=self.folder,
        )  # fmt: skip

    @property
    def calls(self) -> list[tuple[str, list[str], str]]:
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def steps(self) -> list[str]:
        """The calls of gcloud in short: create, describe, delete, and ssh with the word that tells its work."""
        found = []
        for _, words, _ in self.calls:
            sent = next((w for w in words if w.startswith("--command=")), "")
            work = next((word for word in ("uv venv", "-m dtr1_jax", "pkill") if word in sent), "")
            found.append(f"{words[3]} {work}".strip())
        return found


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def sent(words: list[str]) -> str:
    return next(word for word in words if word.startswith("--command=")).removeprefix("--command=")


def received(folder: pathlib.Path, command: str) -> list[str]:
    """The arguments that Python gets where a shell of a host runs the command."""
    host = folder / "host"
    for place in (host / "bin", host / "dtr1_jax" / ".venv" / "bin"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "python").write_text(
            f'#!{sys.executable}\nimport json, sys\nopen("{host}/got", "w").write(json.dumps(sys.argv[1:]))\n'
        )
        (place / "python").chmod(0o755)
    env = os.environ | {"PATH": f"{host / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", command], cwd=host, env=env, check=True, timeout=30)
    return json.loads((host / "got").read_text())


# No queued resource until it is created; then it waits once, and is there.
QUEUE = """
if "list" in words and os.path.exists(state): print("projects/p/locations/z/queuedResources/seg-7b")
if "describe" in words:
    left = int(open(state).read())
    open(state, "w").write(str(left - 1))
    print("ACTIVE" if left <= 0 else "WAITING_FOR_RESOURCES")
if "create" in words: open(state, "w").write("1")
"""
WHOLE = ["list", "create", "describe", "describe", "ssh uv venv", "ssh -m dtr1_jax", "delete"]


def test_a_slice_from_creation_to_deletion(stage, tmp_path):
    done = stage.start("tpu_pod.sh", "run", *TRICKY, act=QUEUE, SPOT="yes")
    assert done.returncode == 0, done.stderr
    assert stage.steps() == WHOLE
    words = {step: words for step, (_, words, _) in zip(stage.steps(), stage.calls)}
    assert words["create"][3:] == [
        "create", "seg-7b", "--node-id=seg-7b", "--zone=z", "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite", "--spot",
    ]  # fmt: skip
    assert words["delete"][3:] == ["delete", "seg-7b", "--zone=z", "--force", "--quiet"]
    ssh = words["ssh -m dtr1_jax"]
    assert ssh[:7] == ["compute", "tpus", "tpu-vm", "ssh", "seg-7b", "--zone=z", "--worker=all"]
    got = received(tmp_path, sent(ssh))
    assert got[:4] == ["-m", "dtr1_jax", "--distributed", "--workdir=gs://bucket/runs/seg-7b"]
    assert got[-len(TRICKY) :] == TRICKY
    assert r"https://host/x\ y dtr1_jax" in sent(words["ssh uv venv"]) and "--python 3.12" in sent(words["ssh uv venv"])


def test_training_needs_no_further_arguments(stage, tmp_path):
    assert stage.start("tpu_pod.sh", "train", WORKDIR="/mnt/a b/run").returncode == 0
    got = received(tmp_path, sent(stage.calls[0][1]))
    assert got[3] == "--workdir=/mnt/a b/run" and got[-1] == "--config.train.eval_batch=64" and "" not in got


def test_the_same_command_resumes_and_leaves_a_slice_that_was_there(stage):
    (stage.folder / "calls.state").write_text("0")
    assert stage.start("tpu_pod.sh", "run", act=QUEUE).returncode == 0
    assert stage.steps() == ["list", "describe", "ssh uv venv", "ssh -m dtr1_jax"]


def test_nothing_is_deleted_where_it_is_not_known_who_made_the_slice(stage):
    done = stage.start("tpu_pod.sh", "run", act=QUEUE + '\nif "list" in words: sys.exit(5)')
    assert done.returncode == 5 and stage.steps() == ["list"]  # Google could not be asked
    stage.log.unlink()
    done = stage.start("tpu_pod.sh", "run", act=QUEUE + '\nif "create" in words: sys.exit(6)')
    assert done.returncode == 6 and stage.steps() == ["list", "create"]  # it can mean that there is one by now
    assert "could not be created; if it is there all the same, delete it by hand" in done.stderr


def test_waiting_bears_a_network_that_fails_for_a_while(stage):
    act = QUEUE + '\nif "describe" in words and open(os.environ["CALLS"]).read().count("describe") < 3: sys.exit(1)'
    assert stage.start("tpu_pod.sh", "run", act=act).returncode == 0
    assert stage.steps().count("describe") == 3 and stage.steps()[-2:] == ["ssh -m dtr1_jax", "delete"]
    stage.log.unlink()
    (stage.folder / "calls.state").unlink()
    done = stage.start("tpu_pod.sh", "run", act=QUEUE + '\nif "describe" in words: sys.exit(1)')
    assert done.returncode == 1 and stage.steps() == ["list", "create", *["describe"] * 6, "delete"]


@pytest.mark.parametrize(
    ("fault", "steps"),
    [
        ("uv venv", ["list", "create", "describe", "describe", "ssh uv venv", "delete"]),
        ("-m dtr1_jax", [*WHOLE[:-1], "ssh pkill", "delete"]),
    ],
)
def test_a_step_that_fails_stops_the_rest_and_the_slice_goes(stage, fault, steps):
    act = QUEUE + f"\nif any({fault!r} in word for word in words): sys.exit(7)"
    assert stage.start("tpu_pod.sh", "run", act=act).returncode == 7
    assert stage.steps() == steps


def test_a_request_that_fails_and_a_slice_that_cannot_be_deleted_are_said(stage):
    failed = QUEUE.replace('"ACTIVE"', '"FAILED"') + '\nif "delete" in words: sys.exit(1)'
    done = stage.start("tpu_pod.sh", "run", act=failed)
    assert done.returncode == 1 and stage.steps()[-1] == "delete" and "ssh -m dtr1_jax" not in stage.steps()
    assert "queued resource seg-7b is FAILED" in done.stderr and "may cost money: delete it by hand" in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_run_and_deletes_the_slice(stage, number, status):
    act = QUEUE + '\nif any("-m dtr1_jax" in word for word in words): import time; time.sleep(1)'
    # These tests may run as a job in the background, which ignores SIGINT, and so would the script.
    heeding = f"import os, signal, sys; signal.signal({int(number)}, signal.SIG_DFL); os.execvp('bash', sys.argv[1:])"
    running = subprocess.Popen(
        [sys.executable, "-c", heeding, "bash", str(ROOT / "experiments" / "tpu_pod.sh"), "run"],
        env=stage.environment(act, {}), cwd=stage.folder, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(600):
        if "ssh -m dtr1_jax" in stage.steps():
            break
        time.sleep(0.05)
    running.send_signal(number)
    assert running.wait(timeout=60) == status
    assert stage.steps() == [*WHOLE[:-1], "ssh pkill", "delete"]


def test_stopping_spares_the_shell_that_stops(stage, tmp_path):
    """The command is run here: it ends a process that looks like a run, and not itself."""
    assert stage.start("tpu_pod.sh", "stop").returncode == 0
    command = sent(stage.calls[0][1])
    mark = f"dtr1_jax --distributed-{tmp_path.name}"
    command = command.replace("dtr1_jax[ ]--distributed", f"dtr1_jax[ ]--distributed-{tmp_path.name}")
    run = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", *mark.split()])
    try:
        assert subprocess.run(["bash", "-c", command], timeout=60).returncode == 0
        assert run.wait(timeout=10) == -signal.SIGTERM
    finally:
        run.kill()


@pytest.mark.parametrize("script", ["tpu_pod.sh", "xpk.sh", "jobset.sh"])
@pytest.mark.parametrize("missing", ["RUN", "BUCKET"])
def test_a_missing_name_is_asked_for(stage, script, missing):
    done = stage.start(script, "run", **{missing: ""})
    assert done.returncode and missing in done.stderr and not stage.calls


LIST = """
if "list" in words: print("[XPK] seg-7b"); print("NAME\\n" + os.environ.get("HAS_" + next(
    w for w in words if w.startswith("--filter-by-status=")).partition("=")[2], ""))
"""


def test_an_xpk_workload(stage, tmp_path):
    done = stage.start("xpk.sh", *TRICKY, act=LIST, SLICES="2", PROJECT="p")
    assert done.returncode == 0, done.stderr
    words = stage.calls[-1][1]
    assert words[:-1] == [
        "workload", "create", "--cluster=c", "--project=p", "--zone=z", "--workload=seg-7b",
        "--tpu-type=v5litepod-16", "--num-slices=2", "--docker-image=registry/image:1", "--max-restarts=10",
    ]  # fmt: skip
    got = received(tmp_path, sent(words))
    assert got[:3] == ["-m", "dtr1_jax", "--workdir=gs://bucket/runs/seg-7b"] and "--distributed" in got
    assert got[-len(TRICKY) :] == TRICKY
    assert [c[1][1] for c in stage.calls] == ["list", "list", "list", "create"]


def test_an_xpk_workload_is_resumed_by_the_same_command_and_never_twice_at_once(stage):
    assert stage.start("xpk.sh", act=LIST, HAS_FINISHED="seg-7b  done").returncode == 0
    assert [c[1][1] for c in stage.calls] == ["list", "list", "list", "delete", "create"]
    assert stage.calls[3][1][-2:] == ["--workload=seg-7b", "--force"]
    for state in ("RUNNING", "QUEUED"):
        stage.log.unlink()
        done = stage.start("xpk.sh", act=LIST, **{f"HAS_{state}": "seg-7b  x"})
        assert done.returncode == 1 and f"workload seg-7b is {state} already" in done.stderr
        assert {c[1][1] for c in stage.calls} == {"list"}
    stage.log.unlink()
    assert stage.start("xpk.sh", act="sys.exit(3)").returncode == 3 and len(stage.calls) == 1


def test_pathways_is_one_process(stage, tmp_path):
    assert stage.start("xpk.sh", "--x=1", act=LIST, PATHWAYS="1").returncode == 0
    words = stage.calls[-1][1]
    got = received(tmp_path, sent(words))
    assert words[:2] == ["workload", "create-pathways"] and "--distributed" not in got and got[-1] == "--x=1"


def test_a_jobset(stage):
    done = stage.start("jobset.sh", *TRICKY, TOPOLOGY="4x8", HOSTS="8", SLICES="2")
    assert done.returncode == 0, done.stderr
    assert [words[0] for _, words, _ in stage.calls] == ["get", "apply"]
    jobset = json.loads(stage.calls[-1][2])
    assert (jobset["kind"], jobset["metadata"]["name"]) == ("JobSet", "seg-7b")
    (slices,) = jobset["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert (slices["replicas"], job["parallelism"], job["completions"], job["backoffLimit"]) == (2, 8, 8, 0)
    pod = job["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"] == "4x8"
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == container["resources"]["requests"] == {"google.com/tpu": 4}
    assert container["command"][:5] == [
        "python",
        "-m",
        "dtr1_jax",
        "--distributed",
        "--workdir=gs://bucket/runs/seg-7b",
    ]
    assert container["command"][-len(TRICKY) :] == TRICKY
    printed = stage.start("jobset.sh", *TRICKY, TOPOLOGY="4x8", HOSTS="8", SLICES="2", PRINT="1")
    assert json.loads(printed.stdout) == jobset and len(stage.calls) == 2


FOUND = """
if "--output=name" in words: print("jobset/seg-7b")
if words[-1].startswith("--output=jsonpath"): print(os.environ.get("ENDED", ""))
"""


def test_a_jobset_is_resumed_by_the_same_command_and_never_twice_at_once(stage):
    done = stage.start("jobset.sh", act=FOUND)
    assert done.returncode == 1 and "JobSet seg-7b is running already" in done.stderr
    assert [words[0] for _, words, _ in stage.calls] == ["get", "get"]
    stage.log.unlink()
    assert stage.start("jobset.sh", act=FOUND, ENDED="Failed").returncode == 0
    assert [words[0] for _, words, _ in stage.calls] == ["get", "get", "delete", "apply"]
    stage.log.unlink()
    assert stage.start("jobset.sh", act="sys.exit(4)").returncode == 4 and len(stage.calls) == 1


@pytest.mark.parametrize(("ended", "requeued"), [(0, False), (130, True), (1, False)])
def test_a_slurm_job(stage, ended, requeued):
    act = f'if name == "srun": sys.exit({ended})'
    done = stage.start("slurm.sh", *TRICKY, act=act, SLURM_JOB_NAME="seg 7b", SLURM_JOB_ID="12", VENV="/a b/venv")
    assert done.returncode == ended
    (_, words, _), *rest = stage.calls
    assert words[:5] == ["--kill-on-bad-exit=0", "/a b/venv/bin/python", "-m", "dtr1_jax", "--distributed"]
    assert f"--workdir={stage.folder}/runs/seg 7b" in words and words[-len(TRICKY) :] == TRICKY
    assert [words for _, words, _ in rest] == ([["requeue", "12"]] if requeued else [])


def test_shellcheck():
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck here")
    done = subprocess.run([program, *map(str, (ROOT / "experiments").glob("*.sh"))], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_all_launchers_give_the_same_command():
    commands = []
    for script in ("tpu_pod.sh", "xpk.sh", "jobset.sh", "slurm.sh"):
        text = (ROOT / "experiments" / script).read_text().replace("\\\n", " ")
        commands.append(set(re.findall(r"--config\.[\w.]+", text[text.rindex("-m dtr1_jax") :])))
    assert commands[0] == commands[1] == commands[2] <= commands[3]

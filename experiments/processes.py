"""Runs that are killed, stopped, moved and attacked, as real processes: do they end like a run that nothing disturbs?

    python experiments/processes.py [--kills=30] [--seed=0] [--folder=DIR]

The program is main.py with the small random policy of tests/tiny.py, so a run takes seconds. It prints a table; the
last line is one JSON object: case -> {"times", "as_expected", "note"}.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
STEPS = 6
SETTINGS = {
    "train__steps": STEPS, "train__eval_every": 3, "train__eval_examples": 2, "rollout__queries": 2,
    "checkpoint__every": 1, "checkpoint__keep": 2, "reward__workers": 1,
}  # fmt: skip
SECRET = "S3cret-value-of-a-variable"
STEERS = ("\x1b", "\x07", "\u202e", "\ud800")


class Runs:
    """Starts the program, and compares what runs leave behind."""

    def __init__(self, folder: pathlib.Path):
        import tiny

        self.folder = folder
        self.arguments = tiny.arguments(tiny.weights_file(folder), **SETTINGS)
        self.seconds = 60.0

    def start(self, name: str, *arguments: str, cold: bool = False, **env: str) -> subprocess.Popen:
        """A process that trains in the workdir `name`, or does what the further arguments say. `cold`: nothing is
        compiled before.
        """
        cache = self.folder / ("compiled-cold" if cold else "compiled")
        if cold:
            shutil.rmtree(cache, ignore_errors=True)
        env = os.environ | {
            "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        } | env  # fmt: skip
        command = [sys.executable, str(ROOT / "tests/tiny.py"), f"--workdir={self.folder / name}"]
        command += arguments or ("--config=configs/seg.py", *self.arguments)
        log = open(self.folder / f"{name}.log", "ab")
        return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT)

    def finish(self, name: str, *arguments: str, **env: str) -> int:
        """Runs to the end; returns the exit status."""
        return self.start(name, *arguments, **env).wait(timeout=1800)

    def log(self, name: str) -> str:
        """All that the processes of this workdir printed."""
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def result(self, name: str) -> object:
        """What a run must leave behind, bit for bit: checksums of all arrays, the position in the data, the metrics of
        its steps, the numbers of the run log without times, the predictions.
        """
        import tiny

        from dtr1_jax.run import run_log

        workdir = self.folder / name
        metadata = next((workdir / "checkpoints" / str(STEPS)).glob("meta/metadata"))
        document = json.loads(metadata.read_text())
        predictions = [p.read_bytes() for p in sorted((workdir / "gallery").glob("*/predictions.jsonl"))]
        rows = [{**row, "train/examples_skipped": 0} for row in tiny.timeless(run_log.read_run_log(workdir))]
        return document["arrays"], document["data"], rows, predictions, (workdir / "report.html").exists()

    def saving(self, name: str) -> bool:
        """Whether a checkpoint is being written."""
        return any((self.folder / name / "checkpoints").glob("*.orbax-checkpoint-tmp*"))


def wait_for(process: subprocess.Popen, event: Callable[[], bool], seconds: float = 600.0) -> bool:
    """Waits until the event; False if the process ended first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if event():
            return True
        time.sleep(0.002)
    return False


KINDS = (("time",) * 4, ("compilation", "save", "time", "report"))  # of chains in turns


def killed(runs: Runs, kills: int, draw: random.Random) -> tuple[int, int, str]:
    """Runs are killed up to four times each, at random times or during a compilation, a save or the report, and go on.

    A run that ended before its signal came is no kill, and its chain ends.
    """
    places: dict[str, int] = {}
    done = right = chain = 0
    while done < kills and chain < 3 * kills:
        name, count = f"killed-{chain}", 0
        for kind in KINDS[chain % 2][: kills - done]:
            place = kill(runs, name, kind, draw)
            if place is None:
                break
            places[place] = places.get(place, 0) + 1
            count += 1
        ok = runs.finish(name) == 0 and runs.result(name) == runs.result("whole")
        done, right, chain = done + count, right + (count if ok else 0), chain + 1
        print(f"  {done} kills, {right} of them in runs that ended equal", flush=True)
    return done, right, ", ".join(f"{n} {place}" for place, n in sorted(places.items()))


def kill(runs: Runs, name: str, kind: str, draw: random.Random) -> str | None:
    """Starts the run and kills it; returns what it was doing, or None if it ended before."""
    printed = len(runs.log(name)) if (runs.folder / f"{name}.log").exists() else 0
    process = runs.start(name, cold=kind == "compilation")
    if kind == "save":
        wait_for(process, lambda: runs.saving(name))
    elif kind == "report":
        wait_for(process, lambda: "held-out after" in runs.log(name)[printed:])
        time.sleep(draw.uniform(0, 0.05))
    elif kind == "compilation":
        wait_for(process, lambda: "to be compiled" in runs.log(name)[printed:])
        time.sleep(draw.uniform(0, 0.2 * runs.seconds))
    else:
        time.sleep(draw.uniform(0, 0.7 * runs.seconds))
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return None
    text = runs.log(name)[printed:]
    return kind if kind != "time" else "step" if "step " in text else "evaluation" if "evaluating" in text else "start"


def stopped(runs: Runs) -> tuple[int, int, str]:
    """A second SIGTERM stops at once; the run goes on from what it had saved."""
    process = runs.start("twice")
    wait_for(process, lambda: "step 2/" in runs.log("twice"))
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    ok = runs.finish("twice") == 0 and runs.result("twice") == runs.result("whole")
    return 1, int(ok and status in (-signal.SIGTERM, 130)), f"exit status {status}"


def stopped_while_saving(runs: Runs) -> tuple[int, int, str]:
    """SIGTERM during a save: the save is completed, and the run says so."""
    process = runs.start("saving")
    wait_for(process, lambda: "step 2/" in runs.log("saving") and runs.saving("saving"))
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    ok = runs.finish("saving") == 0 and runs.result("saving") == runs.result("whole")
    return 1, int(ok and status == 130 and "and saved" in runs.log("saving")), f"exit status {status}"


def two_at_once(runs: Runs) -> tuple[int, int, str]:
    """A second run on the same workdir is refused, and the first ends as if there had been none."""
    first = runs.start("both")
    wait_for(first, lambda: "step 1/" in runs.log("both"))
    first.send_signal(signal.SIGSTOP)  # The second takes its time to start, and the first must not end before.
    second = subprocess.run(
        first.args, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    first.send_signal(signal.SIGCONT)
    status = first.wait()
    ok = second.returncode == 1 and f"process {first.pid} on" in second.stderr and status == 0
    return 1, int(ok and runs.result("both") == runs.result("whole")), second.stderr.strip().splitlines()[-1][:100]


def moved(runs: Runs) -> tuple[int, int, str]:
    """A run is killed, its workdir moved, and goes on there."""
    process = runs.start("here")
    wait_for(process, lambda: "step 3/" in runs.log("here"))
    process.kill()
    process.wait()
    shutil.move(runs.folder / "here", runs.folder / "there")
    ok = runs.finish("there") == 0 and runs.result("there") == runs.result("whole")
    return 1, int(ok), "taking over" if "taking over" in runs.log("there") else "no lock was left"


def foreign_settings(runs: Runs) -> tuple[int, int, str]:
    """A workdir asks for the value of a variable to be sent to a server: nothing arrives there."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append(str(self.headers))
            self.send_error(500)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shutil.copytree(runs.folder / "whole", runs.folder / "foreign")
    path = runs.folder / "foreign" / "config.json"
    values = json.loads(path.read_text())
    judge = {"url": f"http://127.0.0.1:{server.server_port}/v1", "model": "m", "key_env": "JUDGE_KEY"}
    values["reward"]["judge"] |= judge
    path.write_text(json.dumps(values))
    status = runs.finish("foreign", "--mode=eval", JUDGE_KEY=SECRET)
    values["reward"]["weights"]["segmentation"]["judge"] = values["reward"]["weights"]["vqa"]["judge"] = 1.0
    path.write_text(json.dumps(values))
    runs.finish("foreign", "--mode=eval", "--name=judged", "--config.data.task=vqa", JUDGE_KEY=SECRET)
    server.shutdown()
    text = runs.log("foreign")
    ok = not requests and status == 0 and "not taken over" in text and "--config.reward.judge.key_env=VALUE" in text
    return 2, 2 * int(ok and SECRET not in text), f"{len(requests)} requests arrived"


def hostile_text(runs: Runs) -> tuple[int, int, str]:
    """Queries with escape sequences, marks of direction and markup, and numbers of 5,000 digits."""
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(runs.folder / "a.png")
    query = "\x1b[31m\u202e <b>x</b>"  # short enough for the prompt; a lone surrogate would be refused by name
    line = {"image": "a.png", "query": query, "task": "segmentation", "boxes": [[8, 8, 40, 40]]}
    lines = [json.dumps({**line, "split": split}) for split in ("train", "heldout") for _ in range(4)]
    (runs.folder / "evil.jsonl").write_text("\n".join(lines) + "\n")
    source = ["--config.data.source=jsonl", f"--config.data.root={runs.folder / 'evil.jsonl'}"]
    runs.finish("evil", "--config=configs/seg.py", *runs.arguments, *source, "--config.train.steps=2")
    (runs.folder / "evil.jsonl").write_text(lines[0][:-1] + f', "{"9" * 5000}": {"9" * 5000}}}\n' + "\n".join(lines))
    runs.finish("digits", "--config=configs/seg.py", *runs.arguments, *source, "--config.train.steps=2")
    texts = {path: path.read_text("utf-8") for path in (runs.folder / "evil").rglob("*.md")}
    texts |= {name: runs.log(name) for name in ("evil", "digits")}
    report = runs.folder / "evil" / "report.html"
    if report.exists():
        texts[report] = report.read_text("utf-8")
    harmless = not any(mark in text for text in texts.values() for mark in STEERS)
    raised = any("Traceback" in text for text in texts.values())
    return 2, 2 * int(harmless and not raised), f"{len(texts)} texts read, traceback: {raised}"


def keys_in_settings(runs: Runs) -> tuple[int, int, str]:
    """A key in the settings is refused without being shown, and the value of a variable is in no file of a run."""
    right = 0
    for setting in (f"url=https://me:{SECRET}@h/v1", f"url=https://h/v1?key={SECRET}", f"key_env={SECRET}"):
        name = f"keys-{right}"
        runs.finish(name, "--config=configs/seg.py", *runs.arguments, f"--config.reward.judge.{setting}")
        text = runs.log(name)
        right += SECRET not in text and "expected" in text and not (runs.folder / name).exists()
    runs.finish("variable", HF_TOKEN=SECRET, JUDGE_KEY=SECRET)
    files = [p for p in (runs.folder / "variable").rglob("*") if p.is_file()]
    right += SECRET not in runs.log("variable") and not any(SECRET.encode() in p.read_bytes() for p in files)
    return 4, right, f"{len(files)} files searched"


def answers(item: list) -> object:
    """What a hostile function of a worker does: the item names it."""
    from dtr1_jax.run import worker_messages, worker_process

    name, value = item
    if name == "twice":
        send = worker_process.send

        def again(connection, body, end) -> None:
            send(connection, body, end)
            send(connection, body, end)

        worker_process.send = sys.modules["__main__"].send = again  # type: ignore[attr-defined]
    if name == "memory":
        return len(bytearray(worker_messages.MAX_MEMORY))
    if name == "process":
        return subprocess.Popen(["sleep", "600"]).pid
    return value


def hostile_workers(runs: Runs) -> tuple[int, int, str]:
    """A function that answers twice, starts processes or takes all memory costs its own items at most."""
    from dtr1_jax.run.worker_pool import Failure, Pool

    del runs
    items = [["echo", i] for i in range(40)]
    items[5], items[15], items[25] = ["twice", 5], ["memory", 15], ["process", 25]
    with Pool("experiments.processes:answers", workers=1, deadline=60.0) as pool:
        results = pool.map(items)
    wrong = [i for i, r in enumerate(results) if i != 25 and not isinstance(r, Failure) and r != i]
    lost = sum(isinstance(r, Failure) for r in results)
    pid = results[25] if isinstance(results[25], int) else 0
    time.sleep(0.5)
    stat = pathlib.Path(f"/proc/{pid}/stat")
    alive = bool(pid) and stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return 40, 40 * int(not wrong and lost <= 2 and not alive), f"{lost} results lost, {len(wrong)} shifted"


CASES = (
    stopped, stopped_while_saving, two_at_once, moved, foreign_settings, keys_in_settings, hostile_text,
    hostile_workers,
)  # fmt: skip


def main() -> None:
    """Runs all cases and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="names of cases in their order, with commas between")
    options = parser.parse_args()
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="processes-"))
    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs(folder)
    for name in ("warm", "whole"):  # The first compiles, so the second has the time of a run.
        if (folder / name / "report.html").exists():
            continue  # from an earlier call with the same folder
        start = time.monotonic()
        assert runs.finish(name) == 0, runs.log(name)[-2000:]
        runs.seconds = time.monotonic() - start
    print(f"a run that nothing disturbs takes {runs.seconds:.0f} s", flush=True)
    cases: dict[str, Callable[[Runs], tuple[int, int, str]]] = {
        "killed": lambda runs: killed(runs, options.kills, random.Random(options.seed)),
        **{case.__name__: case for case in CASES},
    }
    table = {}
    for name in options.only.split(",") if options.only else cases:
        case = cases[name]
        times, right, note = case(runs)
        table[name] = {"times": times, "as_expected": right, "note": note}
        print(f"{name:22s} {right:3d} of {times:3d} as expected   {note}", flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()

"""Commands that the page starts: how they end, what they said, and who may run beside whom."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill.errors import ParamsError
from distill.progress import STATUS
from distill.ui.jobs import NO_JOB, Job, Jobs, read_end
from distill.ui.worker import STDOUT
from programs import until
from unit.ui.handmade import ID, write_job

WAITS = "print('ready', flush=True); import time; time.sleep(100)"
# Runs a program in place of the command.
RUN = (
    "import runpy, sys; from distill.ui import worker; "
    "runpy.run_module = lambda *_, **__: exec(sys.argv[1], {}); worker.main()"
)


def is_ready(job: Job) -> bool:
    """Whether the program that waits has said so."""
    return "ready" in read_end(job.folder / STDOUT)


def ended(job: Job) -> Job:
    """The job when it has ended."""
    until(lambda: job.state != "running")
    return job


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.end()


@pytest.fixture
def run(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Job]]:
    """Runs a Python program as a job, beside any others; what still runs at the end is killed."""
    made: list[Job] = []
    monkeypatch.setattr("distill.ui.worker._RUN", [sys.executable, "-P", "-c", RUN])

    def started(program: str, kind: str = "train") -> Job:
        name = f"20260102-00000{len(made)}-abcdef0"
        made.append(Job(tmp_path / ".distill" / "jobs" / name, kind, "training one", [program], {}))
        jobs._begin(made[-1])
        return made[-1]

    yield started
    for job in made:
        for process in job.processes():
            process.kill()
        ended(job)


def hand_made(tmp_path: Path, **files: object) -> Job:
    """A job whose files were written by hand, as the page finds it."""
    write_job(tmp_path / ".distill" / "jobs" / ID, arguments=("train", "--help"), **files)
    return Jobs(tmp_path).get(ID)


def test_a_command_runs_to_its_end_or_is_refused_in_its_words(jobs: Jobs, tmp_path: Path) -> None:
    job = ended(jobs.start("train", "help", ["demo", "--help"], {"name": "x"}))
    assert (job.state, job.message) == ("done", "")
    assert "Synthesise the demo corpus" in (job.folder / STDOUT).read_text()
    assert Jobs(tmp_path).get(job.id) == job
    job = ended(jobs.start("generate", "sounds", ["demo"], {}))
    assert (job.state, list(job.arguments)[1:]) == ("refused", ["--out", f"generated/{job.id}", "--json"])
    job = ended(jobs.start("train", "a corpus", ["demo", "x", "--seed", "y"], {}))
    assert (job.state, job.message) == ("refused", "--seed: expected a valid integer, found y")


@pytest.mark.parametrize(
    ("program", "state"),
    [
        ("", "done"),
        ("raise SystemExit(2)", "refused"),
        ("raise ValueError", "defect"),
        ("raise SystemExit(143)", "interrupted"),
        ("import os, time; os.kill(os.getpid(), 2); time.sleep(9)", "interrupted"),
        ("import os; os.kill(os.getpid(), 9)", "gone"),
    ],
)
def test_how_a_command_ended(run: Callable[..., Job], program: str, state: str) -> None:
    job = ended(run(program))
    assert (job.state, job.is_resumable) == (state, state in ("interrupted", "gone"))


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])  # a shell's background ignores it
def test_cancel_is_ctrl_c(run: Callable[..., Job], handler: Any) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        job = run(WAITS)
    finally:
        signal.signal(signal.SIGINT, before)
    until(lambda: is_ready(job))
    assert job.state == "running"
    job.cancel()
    assert ended(job).state == "interrupted"
    job.cancel()  # nothing is left to be asked


def process_of(job: Job) -> int:
    """Number of the process that ran a job."""
    number: int = job.read("process.json")["pid"]
    return number


def test_one_worker_runs_what_somebody_waits_for_and_a_training_has_its_own(run: Callable[..., Job]) -> None:
    told = "import os, sys; print(os.getpid(), sys.stdin.read(), os.environ['DISTILL_STATUS'])"
    jobs = [ended(run(told, kind)) for kind in ("generate", "vary", "train", "kit")]
    assert [job.state for job in jobs] == ["done"] * 4
    numbers = [process_of(job) for job in jobs]
    assert numbers[0] == numbers[1] == numbers[3] != numbers[2]
    for job, number in zip(jobs, numbers, strict=True):
        assert read_end(job.folder / STDOUT).split() == [str(number), str(job.folder)]  # stdin is empty
    until(lambda: not psutil.pid_exists(numbers[2]))
    assert psutil.pid_exists(numbers[0])


@pytest.mark.skipif(not hasattr(os, "nice"), reason="needs POSIX")
def test_a_training_gives_way(run: Callable[..., Job]) -> None:
    """Niceness counts within a session, and Ctrl-C in the page's terminal goes to its process group."""
    told = "import os; print(os.nice(0), os.getsid(0), os.getpgid(0) == os.getpid())"
    of_training, of_sounds = (read_end(ended(run(told, kind)).folder / STDOUT).split() for kind in ("train", "vary"))
    nice, own = os.nice(0), str(os.getsid(0))
    assert of_sounds == [str(nice), own, "True"]
    assert of_training == [str(min(nice + 19, 19)), own, "True"]


@pytest.mark.parametrize(("program", "is_used_again"), [("raise SystemExit(2)", True), ("raise ValueError", False)])
def test_a_worker_that_failed_is_replaced(run: Callable[..., Job], program: str, is_used_again: bool) -> None:
    first, second = ended(run(program, "generate")), ended(run("", "generate"))
    assert (second.state, process_of(first) == process_of(second)) == ("done", is_used_again)


def test_a_worker_that_was_killed_is_replaced(run: Callable[..., Job]) -> None:
    first = ended(run("", "generate"))
    psutil.Process(process_of(first)).kill()
    until(lambda: not psutil.pid_exists(process_of(first)))
    second = ended(run("", "generate"))
    assert (first.state, second.state) == ("done", "done")
    assert process_of(first) != process_of(second)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_beside_a_command_another_one_has_a_worker_that_ends_with_it(run: Callable[..., Job]) -> None:
    first, second = run(WAITS, "generate"), ended(run("", "vary"))
    assert (first.state, second.state) == ("running", "done")
    until(lambda: not psutil.pid_exists(process_of(second)))
    until(lambda: is_ready(first))
    first.cancel()
    assert first.is_cancelled
    assert ended(first).state == "interrupted"
    assert ended(run("", "generate")).state == "done"


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_command_that_is_cancelled_while_its_worker_warms_up_was_cancelled(
    jobs: Jobs, run: Callable[..., Job], tmp_path: Path
) -> None:
    jobs.warm([WAITS])
    until(lambda: "ready" in read_end(tmp_path / ".distill" / "jobs" / "warm" / STDOUT))
    job = run("print('ready')", "generate")
    assert job.state == "running"
    job.cancel()
    assert (ended(job).state, is_ready(job)) == ("interrupted", False)
    again = ended(run("print('ready')", "generate"))
    assert (again.state, is_ready(again)) == ("done", True)


def test_the_page_ends_its_worker_after_what_it_does(jobs: Jobs, run: Callable[..., Job]) -> None:
    job = run("import time; time.sleep(1); print('ready')", "generate")
    jobs.end()
    assert (ended(job).state, is_ready(job)) == ("done", True)
    until(lambda: not psutil.pid_exists(process_of(job)))


def test_one_training_at_a_time_and_few_commands_beside_it(
    jobs: Jobs, run: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = run(WAITS)
    for page in (jobs, Jobs(tmp_path)):  # this page and another one of the same folder
        for kind in ("train", "prior"):
            said = r"at work already \(training one\): expected 1 at a time; wait until one"
            with pytest.raises(ParamsError, match=said):
                page.start(kind, "another", ["train", "--help"], {})
    with pytest.raises(ParamsError, match="at work already"):
        jobs.run(hand_made(tmp_path))
    assert [one.id for one in jobs.running("train", "prior")] == [running.id]
    monkeypatch.setattr("distill.ui.jobs.MOST_AT_ONCE", 2)
    beside, _ = run(WAITS, "generate"), run(WAITS, "kit")
    with pytest.raises(ParamsError, match=r"at work already \(training one, training one\): expected 2 at a time"):
        jobs.start("vary", "another", ["demo"], {})
    until(lambda: is_ready(beside))
    beside.cancel()
    ended(beside)
    assert ended(jobs.start("vary", "another", ["raise SystemExit(2)"], {})).state == "refused"


def test_trainings_that_start_together_are_one(tmp_path: Path) -> None:
    gate, started, refused = threading.Barrier(4), [], []

    def start() -> None:
        page = Jobs(tmp_path)
        gate.wait()
        try:
            started.append(page.start("train", "one", ["train", "--help"], {}))
        except ParamsError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(started), len(refused)) == (1, 3)
    ended(started[0])


def test_a_training_goes_on_where_it_was(jobs: Jobs, tmp_path: Path) -> None:
    job = hand_made(tmp_path, exit_json={"status": 130}, status_json={"label": "codec"})
    assert job.is_resumable
    jobs.stop_file.touch()  # of another training
    again = jobs.run(job)
    assert not jobs.stop_file.exists()
    assert (again.id, again.read(STATUS)) == (job.id, {})
    assert ended(again).state == "done"


@pytest.mark.parametrize(("seconds", "state"), [(0, "running"), (10, "gone")])
def test_a_number_of_a_process_is_used_again(tmp_path: Path, seconds: float, state: str) -> None:
    created = psutil.Process().create_time() - seconds
    assert hand_made(tmp_path, process_json={"pid": os.getpid(), "created": created}).state == state


@pytest.mark.parametrize("rubbish", ["", "{", "[1]", "{}", '"x"'])
def test_files_that_are_cut_off_tell_nothing(tmp_path: Path, rubbish: str) -> None:
    job = hand_made(tmp_path, **dict.fromkeys(("process_json", "exit_json", "status_json", "stdout_txt"), rubbish))
    assert (job.state, job.read(STATUS), job.read(STDOUT)) == ("gone", {}, {})
    job.cancel()
    (job.folder / "job.json").write_text(rubbish)
    assert Jobs(tmp_path).all("train") == []


@pytest.mark.parametrize("name", ["", ".", "..", "/", "../ui", f"../jobs/{ID}", f"{ID}/", "\0", f"{ID}\n", None])
def test_names_of_jobs_are_no_paths(jobs: Jobs, tmp_path: Path, name: str | None) -> None:
    hand_made(tmp_path)
    assert jobs.get(name) is NO_JOB
    assert jobs.get(name).events("codec") == []


def test_events_are_by_epoch_and_warnings_said_once(tmp_path: Path) -> None:
    events = [("metrics", "codec", 1, 2.0), ("metrics", "codec", 0, 3.0), ("metrics", "codec", 1, 1.0)]
    events += [("metrics", "prior", 0, 9.0), ("Other", "codec", 0, 8.0)]
    lines = [json.dumps(dict(zip(("event", "task", "epoch", "loss"), row, strict=True))) for row in events]
    text = "\n".join([*lines, '{"event": "metrics", "task": "codec"}', '{"event": "metrics", "task": "codec", "ep'])
    job = hand_made(
        tmp_path,
        events_jsonl=text,
        said_txt="warning: a\nb\nwarning: a\nwarning: c\n",
        stderr_txt="distill: warning: d",
    )
    assert [(one["epoch"], one["loss"]) for one in job.events("codec")] == [(0, 3.0), (1, 1.0)]
    assert len(job.events("prior")) == 1
    assert job.warnings == ["a", "c", "d"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", ""),
        ("noise\ndistill: one: expected two; do three\n", "one: expected two; do three"),
        ("distill: first\n  a.wav\n  b.wav\n", "first\n  a.wav\n  b.wav"),
        ("only noise\n", "only noise"),
        ("x" * 1_000_000 + "\ndistill: end\n", "end"),
    ],
)
def test_the_message_is_the_last_sentence_with_its_list(tmp_path: Path, said: str, message: str) -> None:
    assert hand_made(tmp_path, stderr_txt=said).message == message


def test_old_jobs_are_forgotten(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Job]) -> None:
    monkeypatch.setattr("distill.ui.jobs.MOST_KEPT", 1)
    running = run(WAITS)
    old = [ended(run("")) for _ in range(2)]
    ended(jobs.start("generate", "sounds", ["--help"], {}))
    assert running.folder.exists()
    assert [job.folder.exists() for job in old] == [False, True]

"""Commands that the page starts: how they end, what they said, and who may run beside whom."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill.errors import ParamsError
from distill.ui.jobs import Job, Jobs

ID = "20260101-000000-abcdef"
PATIENCE = 30  # seconds
WAITS = "import signal, sys; signal.signal(signal.SIGINT, lambda *_: sys.exit(130)); print('ready', flush=True); signal.pause()"


def until(condition: Callable[[], Any]) -> None:
    """Look until the condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited for too long"
        threading.Event().wait(0.01)  # the processor is for the command


def is_ready(job: Job) -> bool:
    """Whether the program that waits has said so and is recorded."""
    said = job.folder / "stdout.txt"
    return said.exists() and "ready" in said.read_text() and (job.folder / "command.json").exists()


def ended(job: Job) -> Job:
    """The job when it has ended."""
    until(lambda: job.state != "running")
    return job


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


@pytest.fixture
def run(jobs: Jobs, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """Runs a Python program as a job; what still runs at the end is killed."""
    made: list[Job] = []

    def started(program: str, kind: str = "train") -> Job:
        name = f"20260101-00000{len(made)}-abcdef"
        command = [sys.executable, "-c", program]
        made.append(jobs._run(Job(tmp_path / ".distill" / "jobs" / name, kind, "training one", command, {}, 0.0)))
        return made[-1]

    yield started
    for job in made:
        for file in ("process.json", "command.json"):
            if (pid := job._running()) is not None:
                psutil.Process(pid).kill()
                until(lambda path=job.folder / file: not _runs(path))


def _runs(path: Path) -> bool:
    try:
        pid = int(json.loads(path.read_text())["pid"])
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False


def hand_made(tmp_path: Path, **files: object) -> Job:
    """A job whose files were written by hand; text is written as it is."""
    folder = tmp_path / ".distill" / "jobs" / ID
    folder.mkdir(parents=True, exist_ok=True)
    values = {"kind": "train", "title": "one", "command": ["a"], "values": {}, "started": 0}
    for name, content in {"job_json": values, **files}.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("_", ".")).write_text(text)
        os.utime(folder / name.replace("_", "."), (0, 0))  # not a job that has just been started
    found = Jobs(tmp_path).get(ID)
    assert found is not None
    return found


def test_a_job_that_is_being_started_is_at_work(tmp_path: Path) -> None:
    job = hand_made(tmp_path)
    assert job.state == "gone"
    (job.folder / "job.json").touch()
    assert job.state == "running"
    (job.folder / "exit.json").write_text('{"status": 2}')
    assert job.state == "refused"


def test_a_command_runs_to_its_end(jobs: Jobs, tmp_path: Path) -> None:
    job = ended(jobs.start("verify", "help", ["demo", "--help"], {"name": "x"}))
    assert (job.state, job.message) == ("done", "")
    assert "Synthesise the demo corpus" in (job.folder / "stdout.txt").read_text()
    again = Jobs(tmp_path).get(job.id)
    assert again is not None
    assert (again.title, again.kind, again.values) == ("help", "verify", {"name": "x"})


def test_a_refusal_is_told_in_the_words_of_the_command(jobs: Jobs) -> None:
    job = ended(jobs.start("verify", "a corpus", ["demo", "x", "--seed", "y"], {}))
    assert job.state == "refused"
    assert job.message == "--seed: expected a valid integer, found y; see distill --help"


def test_what_is_made_gets_a_folder_of_its_own(jobs: Jobs) -> None:
    job = ended(jobs.start_in_folder("generate", "sounds", ["demo"], {}))
    assert list(job.command)[-3:] == ["--out", f"generated/{job.id}", "--json"]
    assert job.state == "refused"


@pytest.mark.parametrize(
    ("program", "state"),
    [
        ("", "done"),
        ("raise SystemExit(2)", "refused"),
        ("raise SystemExit(1)", "defect"),
        ("raise SystemExit(130)", "interrupted"),
        ("raise SystemExit(143)", "interrupted"),
        ("import os; os.kill(os.getpid(), 2)", "interrupted"),
        ("import os; os.kill(os.getpid(), 15)", "interrupted"),
        ("import os; os.kill(os.getpid(), 9)", "defect"),
    ],
)
def test_how_a_command_ended(run: Callable[..., Job], program: str, state: str) -> None:
    assert ended(run(program)).state == state


def test_cancel_is_ctrl_c(run: Callable[..., Job]) -> None:
    job = run(WAITS)
    until(lambda: is_ready(job))
    assert job.state == "running"
    job.cancel()
    assert ended(job).state == "interrupted"
    job.cancel()  # nothing is left to be asked


def test_a_command_outlives_the_process_that_watches_it(jobs: Jobs, run: Callable[..., Job]) -> None:
    job = run(WAITS)
    until(lambda: is_ready(job))
    watcher = int(json.loads((job.folder / "process.json").read_text())["pid"])
    os.kill(watcher, signal.SIGKILL)
    until(lambda: not _runs(job.folder / "process.json"))
    assert job.state == "running"
    with pytest.raises(ParamsError, match=r"a training runs already \(training one\): expected one at a time"):
        jobs.start("prior", "another", ["train-prior", "--help"], {})
    job.cancel()
    assert ended(job).state == "gone"


def test_a_killed_job_is_gone(run: Callable[..., Job]) -> None:
    job = run("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    assert ended(job).state == "gone"


def test_one_training_at_a_time(jobs: Jobs, run: Callable[..., Job], tmp_path: Path) -> None:
    running = run(WAITS)
    for page in (jobs, Jobs(tmp_path)):  # this page and another one of the same folder
        for kind in ("train", "prior"):
            with pytest.raises(ParamsError, match=r"a training runs already .* wait until it ends or cancel it"):
                page.start(kind, "another", ["train", "--help"], {})
    with pytest.raises(ParamsError, match="a training runs already"):
        jobs.resume(hand_made(tmp_path, job_json=_train("train", "--help")))
    found = jobs.training()
    assert found is not None
    assert found.id == running.id
    assert ended(jobs.start("generate", "sounds", ["demo", "--help"], {})).state == "done"


def test_commands_beside_a_training_are_few(
    jobs: Jobs, run: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.ui.jobs.MOST_AT_ONCE", 2)
    running = [run(WAITS, kind) for kind in ("train", "generate", "kit")]
    for start in (jobs.start, jobs.start_in_folder):
        with pytest.raises(ParamsError) as caught:
            start("vary", "another", ["demo", "--help"], {})
        assert str(caught.value) == (
            "2 commands are at work (training one and others): expected 2 at a time or fewer; wait until one ends or cancel it"
        )
    until(lambda: is_ready(running[1]))
    running[1].cancel()
    ended(running[1])
    assert ended(jobs.start("vary", "another", ["demo", "--help"], {})).state == "done"


def test_nothing_is_made_through_links(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "generated").symlink_to(tmp_path / "outside")
    with pytest.raises(ParamsError, match="generated: expected a folder, found a link; put a folder there"):
        jobs.start_in_folder("generate", "sounds", ["demo"], {})
    job = hand_made(tmp_path, job_json=_train("train", "--help"), exit_json={"status": 130})
    (job.folder / "stdout.txt").symlink_to(tmp_path / "outside" / "file")
    with pytest.raises(ParamsError, match="one: expected files of a training, found links; start the training anew"):
        jobs.resume(job)
    assert list((tmp_path / "outside").iterdir()) == []


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


def _train(*arguments: str, python: str = "elsewhere/python") -> dict[str, object]:
    command = [python, "-P", "-m", "distill", *arguments]
    return {"kind": "train", "title": "one", "command": command, "values": {}, "started": 0}


def test_a_training_goes_on_with_the_python_of_this_page(jobs: Jobs, tmp_path: Path) -> None:
    job = hand_made(tmp_path, job_json=_train("train", "--help"), exit_json={"status": 130})
    assert job.state == "interrupted"
    again = jobs.resume(job)
    assert list(again.command) == [sys.executable, "-P", "-m", "distill", "train", "--help"]
    assert ended(again).state == "done"


@pytest.mark.parametrize(
    "command",
    [
        ["/bin/sh", "-c", "touch stranger"],
        [sys.executable, "-c", "open('stranger', 'w')"],
        [sys.executable, "-P", "-m", "distill", "demo", "stranger"],
        [sys.executable, "-P", "-m", "distill"],
        [],
    ],
)
def test_commands_of_strangers_are_not_run(jobs: Jobs, tmp_path: Path, command: list[str]) -> None:
    job = hand_made(tmp_path, job_json={**_train(), "command": command})
    with pytest.raises(ParamsError, match="one: expected a training that this page started, found another command"):
        jobs.resume(job)
    assert job.state == "gone"


def test_a_number_of_a_process_is_used_again(tmp_path: Path) -> None:
    created = psutil.Process().create_time()
    assert hand_made(tmp_path, process_json={"pid": os.getpid(), "created": created}).state == "running"
    assert hand_made(tmp_path, process_json={"pid": os.getpid(), "created": created - 10}).state == "gone"


@pytest.mark.parametrize(
    "rubbish", ["", "{", "[1]", "{}", '"x"', "[" * 100_000, '{"pid": "x", "created": 1}', '{"pid": 0, "created": 0}']
)
def test_files_full_of_rubbish_tell_nothing(tmp_path: Path, rubbish: str) -> None:
    job = hand_made(tmp_path, **dict.fromkeys(("process_json", "command_json", "exit_json", "status_json"), rubbish))
    assert job.state == "gone"
    assert isinstance(job.progress, dict)
    job.cancel()


@pytest.mark.parametrize("pid", [-1, 1 << 70, True, 1.5, None, [1]])
def test_numbers_of_no_process_are_not_signalled(tmp_path: Path, pid: object) -> None:
    job = hand_made(tmp_path, process_json={"pid": pid, "created": 0.0})
    assert job.state == "gone"
    job.cancel()


@pytest.mark.parametrize(
    "values",
    [
        "[1]",
        "{",
        "[" * 100_000,
        {"kind": "train"},
        {**_train(), "kind": 1},
        {**_train(), "title": ["x"]},
        {**_train(), "values": []},
        {**_train(), "command": "sh"},
        {**_train(), "command": [1]},
        {**_train(), "started": "x"},
    ],
)
def test_a_folder_of_rubbish_hides_no_job(jobs: Jobs, tmp_path: Path, values: object) -> None:
    hand_made(tmp_path)
    folder = tmp_path / ".distill" / "jobs"
    for name in ("20270101-000000-abcdef", 'x"><img src=x>', "notes"):
        (folder / name).mkdir()
        (folder / name / "job.json").write_text(values if isinstance(values, str) else json.dumps(values))
    (folder / "20280101-000000-abcdef").mkdir()
    (folder / "20290101-000000-abcdef").touch()
    (folder / "20300101-000000-abcdef").symlink_to(folder / ID)
    assert [job.id for job in jobs.all("train")] == [ID]


@pytest.mark.parametrize("name", ["", ".", "..", "/", "../ui", f"../jobs/{ID}", f"{ID}/", "\0", "a" * 5000, f"{ID}\n"])
def test_names_of_jobs_are_no_paths(jobs: Jobs, tmp_path: Path, name: str) -> None:
    hand_made(tmp_path)
    assert jobs.get(name) is None


def test_events_of_a_task_are_by_epoch(tmp_path: Path) -> None:
    lines = [
        {"event": "metrics", "task": "codec", "epoch": 1, "loss": 2.0},
        {"event": "metrics", "task": "codec", "epoch": 0, "loss": 3.0},
        {"event": "metrics", "task": "codec", "epoch": 1, "loss": 1.0},
        {"event": "metrics", "task": "prior", "epoch": 0, "loss": 9.0},
        {"event": "Other", "task": "codec", "epoch": 0},
        {"event": "metrics", "task": "codec", "epoch": "x"},
        {"event": "metrics", "task": "codec"},
        ["metrics"],
        7,
    ]
    text = "\n".join(
        [*map(json.dumps, lines), "", "\x00\xff", "[" * 100_000, '{"event": "metrics", "task": "codec", "ep']
    )
    job = hand_made(tmp_path, events_jsonl=text)
    assert [(one["epoch"], one["loss"]) for one in job.events("codec")] == [(0, 3.0), (1, 1.0)]
    (job.folder / "events.jsonl").write_bytes(b"\xff\xfe\n" + text.encode())
    assert len(job.events("codec")) == 2
    assert len(job.events("prior")) == 1


def test_warnings_are_said_once(tmp_path: Path) -> None:
    job = hand_made(tmp_path, said_txt="warning: a\nb\nwarning: a\nwarning: c\n")
    assert (job.warnings, job.said[1]) == (["a", "c"], "b")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("", ""),
        ("noise\ndistill: one: expected two; do three\n", "one: expected two; do three"),
        ("distill: first\n  a.wav\n  b.wav\n", "first\n  a.wav\n  b.wav"),
        ("only noise\n", "only noise"),
    ],
)
def test_the_message_is_the_last_sentence_with_its_list(tmp_path: Path, said: str, message: str) -> None:
    assert hand_made(tmp_path, stderr_txt=said).message == message


def test_a_long_text_is_read_from_its_end(tmp_path: Path) -> None:
    job = hand_made(tmp_path, stderr_txt="x" * 1_000_000 + "\ndistill: end\n")
    assert job.message == "end"


def test_old_jobs_are_forgotten(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, run: Callable[..., Job]) -> None:
    monkeypatch.setattr("distill.ui.jobs.MOST_KEPT", 1)
    running = run(WAITS)
    old = [ended(run("")) for _ in range(2)]
    ended(jobs.start("generate", "sounds", ["--help"], {}))
    assert running.folder.exists()
    assert [job.folder.exists() for job in old] == [False, True]

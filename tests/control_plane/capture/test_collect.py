"""The requests' side: what does not fit is dropped and counted, nothing waits, and a killed process loses nothing it wrote."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from control_plane.capture.collect import Bounds, LocalCapture, waiting_bytes
from control_plane.capture.sample import Sample, Shot, decode
from control_plane.logs import create_log
from control_plane.metrics import create_metrics
from control_plane.sampling import Rules
from control_plane.usage.segment import claim, segments
from tests.control_plane.capture.making import a_sample
from tests.control_plane.fakes import ROOT

ROOMY = Bounds(spool_bytes=10**9, seal_s=30)


def collector(folder: Path, bounds: Bounds = ROOMY) -> LocalCapture:
    return LocalCapture(folder, rules=Rules(), bounds=bounds, metrics=create_metrics(), log=create_log("error"))


def counted(capture: LocalCapture, outcome: str) -> float:
    return float(capture.counts[outcome]._value.get())


def written(folder: Path) -> list[Sample]:
    found = []
    for path in segments(folder):
        segment = claim(path)
        assert segment is not None
        found += [decode(payload) for payload in segment.payloads()]
        segment.close()
    return found


def test_what_is_offered_lies_on_disk_as_it_came(tmp_path: Path) -> None:
    capture, samples = collector(tmp_path), [a_sample(seed) for seed in range(5)]
    capture.start()
    for sample in samples:
        capture.offer(sample)
    capture.close()
    assert written(tmp_path) == samples
    assert counted(capture, "spooled") == 5


def test_a_full_queue_drops_and_counts_and_never_waits(tmp_path: Path) -> None:
    capture = collector(tmp_path, Bounds(spool_bytes=10**9, seal_s=30, queue_bytes=10_000))
    for seed in range(20):  # nobody writes: it was not started
        capture.offer(a_sample(seed, shots=(Shot(camera="front", kind="jpg", data=b"x" * 4_000),)))
    assert counted(capture, "dropped_queue") == 18


def test_a_full_folder_drops_and_counts_until_there_is_room(tmp_path: Path) -> None:
    bounds = Bounds(spool_bytes=60_000, seal_s=30, segment_bytes=20_000)
    big = (Shot(camera="front", kind="jpg", data=b"x" * 15_000),)
    for _ in range(2):
        capture = collector(tmp_path, bounds)
        capture.start()
        for seed in range(8):
            capture.offer(a_sample(seed, shots=big))
        capture.close()
    assert counted(capture, "dropped_spool") > 0
    assert waiting_bytes(tmp_path) <= 60_000 + 8 * 16_500  # one batch may overshoot: it is written at once
    for path in segments(tmp_path):
        path.unlink()
    capture = collector(tmp_path, bounds)
    capture.start()
    capture.offer(a_sample(0, shots=big))
    capture.close()
    assert counted(capture, "spooled") == 1


def test_a_disk_that_refuses_is_counted_and_told(tmp_path: Path) -> None:
    capture = collector(tmp_path)
    capture.start()
    for path in tmp_path.iterdir():
        path.unlink()
    tmp_path.rmdir()
    capture.offer(a_sample(0))
    capture.close()
    assert counted(capture, "dropped_disk") == 1


def test_a_killed_process_loses_nothing_that_was_written(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tests.control_plane.capture.making import a_sample\n"
        "from tests.control_plane.capture.test_collect import collector\n"
        "capture = collector(Path(sys.argv[1])); capture.start()\n"
        "for seed in range(10): capture.offer(a_sample(seed))\n"
        "while capture.counts['spooled']._value.get() < 10: time.sleep(0.01)\n"
        "print('written', flush=True); time.sleep(60)"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    assert [sample.seq for sample in written(tmp_path)] == list(range(10))

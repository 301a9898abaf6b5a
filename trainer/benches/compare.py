#!/usr/bin/env python3
"""Compares the training step of step.rs with PyTorch, steps interleaved: CPU time per pair with one thread each, or
pairs per second on a GPU.

Usage: compare.py STEP_BINARY [--python PYTHON] [--rounds N] [--pairs N] [--threads N] [--device cpu|cuda:0]

STEP_BINARY comes from `cargo bench --no-run -p roadhound-trainer --bench step`; PYTHON needs torch. CPU time is
read from the kernel (all threads of each process, in nanoseconds), so other work on the machine disturbs little. On a
GPU wall time counts, and STEP_BINARY comes from `scripts/build-cuda.sh bench --no-run --bench step`; give it a batch that
fills the GPU, `--pairs 96`.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import time

HERE = pathlib.Path(__file__).parent


def cpu_seconds(pid):
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total * 1e-9


class Worker:
    def __init__(self, name, command, threads):
        env = dict(os.environ, RAYON_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
        self.name, self.cpu, self.wall = name, [], []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def step(self, record):
        cpu, wall = cpu_seconds(self.process.pid), time.perf_counter()
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        if not self.process.stdout.readline():
            raise SystemExit(f"{self.name} ended")
        if record:
            self.cpu.append(cpu_seconds(self.process.pid) - cpu)
            self.wall.append(time.perf_counter() - wall)


def report_gpu(workers, pairs):
    rate = {w.name: pairs / statistics.median(w.wall) for w in workers}
    for worker in workers:
        worker.process.stdin.close()
        low, high = pairs / max(worker.wall), pairs / min(worker.wall)
        print(f"{worker.name:26} {rate[worker.name]:8.0f} pairs/s ({low:.0f} to {high:.0f})")
    for precision in ("f32", "tf32", "bf16"):
        theirs = [r for name, r in rate.items() if name.startswith(f"pytorch {precision}")]
        if theirs:
            print(f"roadhound {precision} / best pytorch {precision} = {rate[f'roadhound {precision}'] / max(theirs):.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("step_binary")
    parser.add_argument("--python", default="python3")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-ours", action="store_true")
    args = parser.parse_args()
    on_gpu = args.device != "cpu"
    pairs = ["--pairs", str(args.pairs), "--device", args.device]
    torch = [args.python, str(HERE / "pytorch_step.py"), "--threads", str(args.threads), *pairs]
    commands = {
        "roadhound f32": [args.step_binary, "--precision", "f32", *pairs],
        "roadhound bf16": [args.step_binary, "--precision", "bf16", *pairs],
    }
    if on_gpu:
        commands["roadhound tf32"] = [args.step_binary, "--precision", "tf32", *pairs]
    if not args.only_ours:
        if on_gpu:
            commands["pytorch tf32"] = [*torch, "--precision", "tf32"]
        commands |= {
            "pytorch f32 channels_last": [*torch, "--layout", "channels_last"],
            "pytorch f32 contiguous": [*torch, "--layout", "contiguous"],
            "pytorch bf16 autocast": [*torch, "--precision", "bf16"],
        }
    workers = [Worker(name, command, args.threads) for name, command in commands.items()]
    for _ in range(10 if on_gpu else 2):
        for worker in workers:
            worker.step(record=False)
    for _ in range(args.rounds):
        for worker in workers:
            worker.step(record=True)
    if on_gpu:
        report_gpu(workers, args.pairs)
        return
    median = {w.name: statistics.median(w.cpu) * 1e3 / args.pairs for w in workers}
    for worker in workers:
        worker.process.stdin.close()
        low, high = min(worker.cpu) * 1e3 / args.pairs, max(worker.cpu) * 1e3 / args.pairs
        wall = statistics.median(worker.wall) * 1e3 / args.pairs
        print(f"{worker.name:26} {median[worker.name]:6.1f} CPU-ms per pair ({low:.1f} to {high:.1f}), wall {wall:.1f}")
    if not args.only_ours:
        best = min(median["pytorch f32 channels_last"], median["pytorch f32 contiguous"])
        for name in ("roadhound f32", "roadhound bf16"):
            print(f"{name} / best pytorch f32 = {median[name] / best:.2f}")


if __name__ == "__main__":
    main()

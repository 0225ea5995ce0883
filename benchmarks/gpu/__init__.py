"""The parts of ``benchmarks/gpu_check.py``; each runs on a CPU as well, which is how they are tested."""

"""The parts of ``benchmarks/layers.py``: what is compared, who computes it, how it is timed and reported."""

"""Weights and models from and to other libraries, one module each."""

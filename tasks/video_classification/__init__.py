"""Clip → label: frames, or vectors such as skeletons and spectra."""

from .data import VideoData as VideoData
from .module import VideoClassifier as VideoClassifier

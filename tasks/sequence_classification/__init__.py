"""Sequence → label."""

from .data import ClassificationData as ClassificationData
from .module import SequenceClassifier as SequenceClassifier

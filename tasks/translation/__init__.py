"""Sentence → sentence."""

from .data import TranslationData as TranslationData
from .module import Translator as Translator

"""Text → the next word or character."""

from .data import LanguageData as LanguageData
from .module import LanguageModel as LanguageModel

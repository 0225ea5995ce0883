"""Series → what follows them."""

from .data import ForecastingData as ForecastingData
from .module import Forecaster as Forecaster

"""Radar scans of an hour → rain in the gauge below: the competition "How Much Did It Rain? II"."""

from .data import RainfallData as RainfallData
from .module import RainfallRegressor as RainfallRegressor

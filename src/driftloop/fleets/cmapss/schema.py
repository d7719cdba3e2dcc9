"""What one row of turbofan data is: the one definition of columns, and of the RUL label's cap."""

SETTINGS = ("setting_1", "setting_2", "setting_3")
SENSORS = tuple(f"sensor_{i}" for i in range(1, 22))
COLUMNS = SETTINGS + SENSORS
"""The 24 columns of a row, in the order every array, request and file of driftloop uses."""

N_SETTINGS, N_SENSORS, N_COLUMNS = len(SETTINGS), len(SENSORS), len(COLUMNS)

RUL_CAP = 125
"""Cycles; labels above it are set to it, since a healthy engine shows no trace of its remaining life.

Source: Heimes, "Recurrent neural networks for remaining useful life estimation", PHM 2008 (130);
125 is what the literature on C-MAPSS has used since 2019.
"""

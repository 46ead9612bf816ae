"""Cells without recurrence: functions of the last n inputs, as baselines for the recurrent cells."""

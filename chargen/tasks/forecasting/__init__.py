"""Forecasting: read a series of numbers, continue it with a recurrent network, and compare it with baselines."""

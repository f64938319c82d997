"""Faults: what goes wrong on purpose, and how it is done to a device's road, to its nature or to the device itself. Which
faults there are, and where a new one goes: catalogue.py."""

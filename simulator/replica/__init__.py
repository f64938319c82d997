"""The device state replica: steps 4 and 9 of the pattern."""

"""fleetsim: a device-fleet simulator and load-test harness for over-the-air software updates."""

__version__ = "0.1.0"

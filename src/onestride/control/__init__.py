"""The control loop: episodes, sensors, fallback, signals. No torch."""

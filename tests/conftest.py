"""Settings for every test."""

import os

from hypothesis import HealthCheck, settings

# Under load a machine may be slow at making examples, which is no fault of the code: no deadline, no "too slow" check.
settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=50)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

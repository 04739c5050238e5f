"""Fleets of devices that are only simulated: what they have, when they are away, their speed."""

from .device import Device as Device
from .fleet import fleet_devices as fleet_devices
from .fleet import fleet_profiles as fleet_profiles
from .fleet import fleet_size as fleet_size
from .fleet import worker_profile as worker_profile

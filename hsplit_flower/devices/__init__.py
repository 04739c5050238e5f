"""What devices have: read from node configs, measured, or made up for a simulation."""

from .device import Device as Device
from .fleet import fleet_devices as fleet_devices
from .fleet import fleet_profiles as fleet_profiles
from .fleet import fleet_size as fleet_size
from .fleet import has_unreliable as has_unreliable
from .fleet import worker_profile as worker_profile
from .machine import machine_profile as machine_profile
from .profile import profile_from_node_config as profile_from_node_config
